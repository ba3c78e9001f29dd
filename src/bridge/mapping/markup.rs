//! Basic formatting of messages: bold, italic, underline, lists and the like, as well-formed XHTML.
//!
//! Clients send whatever HTML they please. What FHIR gets (`rendering-xhtml`) and what the bridge sends is built anew
//! from the few elements that are allowed, without attributes; everything else is left out and only its text stays.

/// Elements that are kept (a subset of Matrix, "m.room.message msgtypes", and of FHIR's narrative rules).
const KEPT: [&str; 17] =
    ["b", "strong", "i", "em", "u", "p", "ul", "ol", "li", "code", "pre", "blockquote", "h1", "h2", "h3", "h4", "span"];
/// Elements that stand alone.
const SINGLE: [&str; 2] = ["br", "hr"];
/// Elements whose content is no text for people.
const SILENT: [&str; 3] = ["mx-reply", "script", "style"];
/// How deep elements may stand in each other.
const DEEPEST: usize = 32;

/// Formatted text that is safe to show, and whether something was lost that plain text does not show either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clean {
    /// Well-formed XHTML without attributes.
    pub xhtml: String,
    /// Whether there was an image in the text: a custom emoji.
    pub had_images: bool,
}

/// Builds clean XHTML from whatever a client sent.
pub fn clean(html: &str) -> Clean {
    let mut clean = Clean::default();
    let mut open: Vec<String> = Vec::new();
    let mut silent: Option<String> = None;
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let (text, from_tag) = rest.split_at(at);
        if silent.is_none() {
            push_text(&mut clean.xhtml, text);
        }
        let Some(end) = from_tag.find('>') else {
            // No tag after all.
            if silent.is_none() {
                push_text(&mut clean.xhtml, from_tag);
            }
            rest = "";
            break;
        };
        let tag = Tag::read(from_tag.get(1..end).unwrap_or_default());
        rest = from_tag.get(end + 1..).unwrap_or_default();
        match &silent {
            Some(name) => {
                if tag.closes && tag.name == *name {
                    silent = None;
                }
            }
            None if SILENT.contains(&tag.name.as_str()) => {
                if !tag.closes {
                    silent = Some(tag.name);
                }
            }
            None => tag.write(&mut clean, &mut open),
        }
    }
    if silent.is_none() {
        push_text(&mut clean.xhtml, rest);
    }
    while let Some(name) = open.pop() {
        clean.xhtml.push_str(&format!("</{name}>"));
    }
    clean
}

/// A tag of a client's HTML.
struct Tag {
    name: String,
    closes: bool,
}

// === impl Tag ===

impl Tag {
    fn read(inside: &str) -> Self {
        let (closes, inside) = inside.strip_prefix('/').map_or((false, inside), |inside| (true, inside));
        let name = inside.chars().take_while(|character| character.is_ascii_alphanumeric() || *character == '-');
        let name = name.collect::<String>().to_ascii_lowercase();
        let name = match name.as_str() {
            "del" | "s" | "font" | "div" => "span".to_owned(),
            _ => name,
        };
        Self { name, closes }
    }

    fn write(&self, clean: &mut Clean, open: &mut Vec<String>) {
        let name = self.name.as_str();
        if name == "img" {
            clean.had_images = true;
        } else if SINGLE.contains(&name) && !self.closes {
            clean.xhtml.push_str(&format!("<{name}/>"));
        } else if KEPT.contains(&name) && !self.closes && open.len() < DEEPEST {
            clean.xhtml.push_str(&format!("<{name}>"));
            open.push(name.to_owned());
        } else if self.closes && open.iter().any(|standing| standing == name) {
            // What was left open inside ends here too.
            while let Some(standing) = open.pop() {
                clean.xhtml.push_str(&format!("</{standing}>"));
                if standing == name {
                    break;
                }
            }
        }
    }
}

/// Text with `&`, `<`, `>` and `"` as entities; entities that a client wrote are read first.
fn push_text(xhtml: &mut String, text: &str) {
    for character in read_entities(text).chars() {
        match character {
            '&' => xhtml.push_str("&amp;"),
            '<' => xhtml.push_str("&lt;"),
            '>' => xhtml.push_str("&gt;"),
            '"' => xhtml.push_str("&quot;"),
            // XML 1.0 has no place for other control characters.
            character if character.is_control() && !"\n\t".contains(character) => {}
            character => xhtml.push(character),
        }
    }
}

fn read_entities(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        let known = from.find(';').filter(|end| *end <= 10).and_then(|end| Some((end, entity(from.get(1..end)?)?)));
        match known {
            Some((end, character)) => {
                plain.push(character);
                rest = from.get(end + 1..).unwrap_or_default();
            }
            None => {
                plain.push('&');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    plain.push_str(rest);
    plain
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some('\u{a0}'),
        _ => {
            let digits = name.strip_prefix('#')?;
            let number = match digits.strip_prefix(['x', 'X']) {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok()?,
                None => digits.parse().ok()?,
            };
            char::from_u32(number)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn basic_formatting_stays_and_the_rest_loses_its_tags() {
        let cases = [
            ("<b>bold</b> <em>x</em>", "<b>bold</b> <em>x</em>"),
            ("<a href=\"http://x\">link</a>", "link"),
            ("<strong onclick=\"x\">a", "<strong>a</strong>"),
            ("<ul><li>1<li>2</ul>", "<ul><li>1<li>2</li></li></ul>"),
            ("</b>x<br>y<br />z", "x<br/>y<br/>z"),
            ("<script>alert(1)</script>a", "a"),
            ("<mx-reply><b>quoted</b></mx-reply>answer", "answer"),
            ("1 < 2 &amp; 3 &lt; 4", "1 &lt; 2 &amp; 3 &lt; 4"),
            ("&#x1F600; &#9731; &copy;", "\u{1F600} \u{2603} &amp;copy;"),
        ];
        for (html, xhtml) in cases {
            assert_eq!(clean(html).xhtml, xhtml, "{html}");
        }
        assert!(clean("<img data-mx-emoticon src=\"mxc://x/y\">").had_images);
    }

    proptest! {
        #[test]
        fn what_is_clean_stays_as_it_is(html in "(<(/)?(b|i|p|li|a|br|img|mx-reply|script|x)( y=\"z\")?>|&(amp|lt|#60|x);|[a-z<>&\" ]){0,30}") {
            let once = clean(&html);
            prop_assert_eq!(&clean(&once.xhtml).xhtml, &once.xhtml);
        }
    }
}
