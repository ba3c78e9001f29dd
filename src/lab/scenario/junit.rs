//! JUnit XML, the form that continuous-integration servers read.

use std::fmt::Write as _;

use super::{
    recorder::{Step, Verdict},
    report::Report,
};

/// The report as one test suite; each step is a test case, its chapter the class.
pub(super) fn write(report: &Report) -> String {
    let count = |verdict: Verdict| report.steps.iter().filter(|step| step.verdict == verdict).count();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    _ = writeln!(
        xml,
        "<testsuite name=\"federation-lab verify\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{:.3}\">",
        report.steps.len(),
        count(Verdict::Failed),
        count(Verdict::Skipped),
        report.seconds,
    );
    for step in &report.steps {
        write_case(&mut xml, step);
    }
    xml.push_str("</testsuite>\n");
    xml
}

fn write_case(xml: &mut String, step: &Step) {
    _ = write!(
        xml,
        "  <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\">",
        escaped(step.chapter),
        escaped(&step.name),
        step.seconds
    );
    let detail = escaped(&step.detail);
    let who = escaped(&step.who);
    _ = match step.verdict {
        Verdict::Passed => write!(xml, "<system-out>{who}: {detail}</system-out>"),
        Verdict::Failed => write!(xml, "<failure message=\"{detail}\">{who}</failure>"),
        Verdict::Skipped => write!(xml, "<skipped message=\"{detail}\"/>"),
    };
    xml.push_str("</testcase>\n");
}

/// Text for XML 1.0; characters that it cannot hold become the replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}' => out.push(character),
            _ => out.push('\u{fffd}'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_a_case_and_nothing_breaks_out() {
        let xml = write(&crate::lab::scenario::report::tests::report());
        assert!(xml.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" time=\"1.250\""), "{xml}");
        assert!(xml.contains("name=\"says &lt;hello&gt;\""), "{xml}");
        assert!(xml.contains("<failure message=\"no answer &amp; no &quot;reason&quot;\">"), "{xml}");
        assert_eq!(escaped("a\u{0}\u{1b}b"), "a\u{fffd}\u{fffd}b");
    }
}
