//! The report: a table for people, JSON and JUnit for machines.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _, path::PathBuf};

use serde::Serialize;

use super::{
    junit,
    recorder::{Narrator, Step, Verdict},
};

/// Width of the column that says what was done, in characters.
const WHAT_WIDTH: usize = 62;

/// What became of the scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The servers of the network.
    pub servers: Vec<String>,
    /// How long the whole took, in seconds.
    pub seconds: f64,
    /// All steps in their order.
    pub steps: Vec<Step>,
}

// === impl Report ===

impl Report {
    /// Whether no step failed, and any was taken.
    pub fn passed(&self) -> bool {
        self.count(Verdict::Passed) > 0 && self.count(Verdict::Failed) == 0
    }

    /// The steps that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.verdict == Verdict::Failed)
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.steps.iter().filter(|step| step.verdict == verdict).count()
    }

    /// One line on the whole.
    pub fn summary(&self) -> String {
        let (passed, failed) = (self.count(Verdict::Passed), self.count(Verdict::Failed));
        let mut text = if failed == 0 {
            format!("All {passed} steps passed")
        } else {
            format!("{failed} of {} steps FAILED", passed + failed)
        };
        let skipped = self.count(Verdict::Skipped);
        if skipped > 0 {
            _ = write!(text, ", {skipped} left out");
        }
        _ = write!(text, " in {:.1} s, across {}.", self.seconds, self.servers.join(", "));
        text
    }

    /// The report as JUnit XML.
    pub fn junit(&self) -> String {
        junit::write(self)
    }
}

/// Tells a person of each step as it ends, in a table.
#[derive(Debug, Default)]
pub struct Teller {
    chapter: &'static str,
    logs: BTreeMap<String, PathBuf>,
}

// === impl Teller ===

impl Teller {
    /// A teller that knows the log file of each server.
    pub fn new(logs: BTreeMap<String, PathBuf>) -> Self {
        Self { chapter: "", logs }
    }

    fn rows(&self, step: &Step) -> String {
        let verdict = match step.verdict {
            Verdict::Passed => "ok",
            Verdict::Failed => "FAIL",
            Verdict::Skipped => "left out",
        };
        let who = if step.verdict == Verdict::Passed && !step.detail.is_empty() {
            format!("{}: {}", step.who, step.detail)
        } else {
            step.who.clone()
        };
        let row = format!("  {verdict:<8} {:>6.2} s  {:<WHAT_WIDTH$}  {who}", step.seconds, step.name);
        let mut text = row.trim_end().to_owned() + "\n";
        let mut add = |label: &str, value: &str| _ = writeln!(text, "{:21}{label} {value}", "");
        match step.verdict {
            Verdict::Passed => {}
            Verdict::Skipped => add("why:", &step.detail),
            Verdict::Failed => {
                add("cause:", &step.detail);
                let named = step.server.as_ref().and_then(|server| self.logs.get(server));
                for log in named.map_or_else(|| self.logs.values().collect(), |log| vec![log]) {
                    add("log:  ", &log.display().to_string());
                }
            }
        }
        text
    }
}

impl Narrator for Teller {
    fn begins(&mut self, chapter: &'static str, _name: &str) {
        if chapter != self.chapter {
            println!("\n{chapter}");
            self.chapter = chapter;
        }
    }

    fn ended(&mut self, step: &Step) {
        self.begins(step.chapter, &step.name);
        print!("{}", self.rows(step));
        // A terminal that is gone does not keep the scenario from its end.
        _ = std::io::stdout().flush();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::lab::scenario) fn step(name: &str, verdict: Verdict, detail: &str) -> Step {
        let (name, detail) = (name.to_owned(), detail.to_owned());
        Step { chapter: "People", name, who: "anna".into(), verdict, seconds: 0.5, detail, server: Some("vvt".into()) }
    }

    pub(in crate::lab::scenario) fn report() -> Report {
        let steps = vec![
            step("says <hello>", Verdict::Passed, "seen"),
            step("waits", Verdict::Failed, "no answer & no \"reason\""),
            step("sings", Verdict::Skipped, "no voice"),
        ];
        Report { servers: vec!["apotheek".into(), "vvt".into()], seconds: 1.25, steps }
    }

    #[test]
    fn a_failure_names_its_cause_and_its_log() {
        let teller = Teller::new(BTreeMap::from([
            ("vvt".to_owned(), PathBuf::from("/logs/vvt.log")),
            ("apotheek".to_owned(), PathBuf::from("/logs/apotheek.log")),
        ]));
        let text = teller.rows(&report().steps[1]);
        assert!(text.contains("FAIL") && text.contains("cause: no answer"), "{text}");
        assert!(text.contains("/logs/vvt.log") && !text.contains("/logs/apotheek.log"), "{text}");
    }

    #[test]
    fn the_summary_counts() {
        assert_eq!(report().summary(), "1 of 2 steps FAILED, 1 left out in 1.2 s, across apotheek, vvt.");
        assert!(!report().passed());
        let mut good = report();
        good.steps.truncate(1);
        assert!(good.passed());
        good.steps.clear();
        assert!(!good.passed());
    }
}
