//! Narratives (R4, 2.4.0): a `<div>` of well-formed XHTML that formats text and does nothing (txt-1, txt-2).

/// Elements that format text: chapters 7 to 11 and 15 of HTML 4.0, and images.
#[rustfmt::skip]
const ELEMENTS: [&str; 59] = [
    "a", "abbr", "acronym", "address", "area", "b", "bdo", "big", "blockquote", "br", "caption", "cite", "code", "col",
    "colgroup", "dd", "del", "dfn", "div", "dl", "dt", "em", "font", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i",
    "img", "ins", "kbd", "li", "map", "ol", "p", "pre", "q", "s", "samp", "small", "span", "strike", "strong", "sub",
    "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "u", "ul", "var",
];

/// Schemes of links that only lead somewhere.
const SCHEMES: [&str; 8] = ["http", "https", "mailto", "tel", "urn", "cid", "ftp", "data"];

/// Whether a text is a narrative.
pub(super) fn is_one(text: &str) -> bool {
    let mut reader = Reader { rest: text.trim(), open: Vec::new(), has_content: false };
    reader.rest.starts_with("<div") && reader.read().is_some() && reader.has_content
}

/// Reads a narrative; what is wrong with it ends the reading.
struct Reader<'a> {
    rest: &'a str,
    open: Vec<&'a str>,
    has_content: bool,
}

impl<'a> Reader<'a> {
    /// Reads everything, which must be one element.
    fn read(&mut self) -> Option<()> {
        self.tag()?;
        while !self.open.is_empty() {
            let (text, rest) = self.rest.split_at(self.rest.find('<')?);
            self.has_content |= !text.trim().is_empty();
            if !has_sound_entities(text) {
                return None;
            }
            self.rest = rest;
            self.tag()?;
        }
        self.rest.is_empty().then_some(())
    }

    /// Reads what begins with `<`.
    fn tag(&mut self) -> Option<()> {
        if let Some(comment) = self.rest.strip_prefix("<!--") {
            let (_, rest) = comment.split_once("-->")?;
            self.rest = rest;
            return Some(());
        }
        if let Some(end) = self.rest.strip_prefix("</") {
            let (name, rest) = end.split_once('>')?;
            self.rest = rest;
            return (self.open.pop()? == name.trim_end()).then_some(());
        }
        let tag = self.rest.strip_prefix('<')?;
        let (name, mut rest) = tag.split_at(tag.find(|found: char| !found.is_ascii_alphanumeric())?);
        if !ELEMENTS.contains(&name) {
            return None;
        }
        loop {
            let trimmed = rest.trim_start();
            if let Some(rest) = trimmed.strip_prefix("/>") {
                self.rest = rest;
                self.has_content |= name == "img";
                return Some(());
            }
            if let Some(rest) = trimmed.strip_prefix('>') {
                self.rest = rest;
                self.has_content |= name == "img";
                self.open.push(name);
                return Some(());
            }
            // An attribute stands apart from what is before it.
            if trimmed.len() == rest.len() {
                return None;
            }
            rest = attribute(trimmed)?;
        }
    }
}

/// Reads an attribute; gives what is behind it.
fn attribute(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once('=')?;
    let (name, rest) = (name.trim_end(), rest.trim_start());
    let quote = rest.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let (value, rest) = rest.get(1..)?.split_once(quote)?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic() || b"-:".contains(&byte));
    let is_sound = match name.to_ascii_lowercase().as_str() {
        "xmlns" => value == "http://www.w3.org/1999/xhtml",
        "href" | "src" | "cite" | "longdesc" | "usemap" => leads_somewhere(value),
        // Handlers of events, and what else acts.
        other => !other.starts_with("on") && !matches!(other, "action" | "formaction" | "srcdoc" | "xlink:href"),
    };
    (is_name && is_sound && !value.contains('<') && has_sound_entities(value)).then_some(rest)
}

/// Whether a link only leads somewhere, and runs nothing.
fn leads_somewhere(link: &str) -> bool {
    let link = link.trim().to_ascii_lowercase();
    let Some((scheme, behind)) = link.split_once(':').filter(|(scheme, _)| !scheme.contains(['/', '?', '#'])) else {
        // An entity could hide the colon.
        return !link.contains("&colon") && !link.contains("&#");
    };
    SCHEMES.contains(&scheme) && (scheme != "data" || behind.starts_with("image/") && !behind.starts_with("image/svg"))
}

/// Whether each `&` begins an entity.
fn has_sound_entities(text: &str) -> bool {
    text.split('&').skip(1).all(|behind| {
        behind.split_once(';').is_some_and(|(name, _)| {
            !name.is_empty() && name.trim_start_matches('#').bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::is_one;

    #[test]
    fn a_narrative_formats_and_does_nothing() {
        for right in [
            "<div xmlns=\"http://www.w3.org/1999/xhtml\">Żółć &amp; &#233; &nbsp; 👋</div>",
            " <div><p class='x'>a<br/>b</p><table border=\"1\"><tr><td colspan=\"2\">c</td></tr></table></div>\n",
            "<div><a href=\"https://x.nl/?a=1&amp;b=2\">x</a><a href=\"Patient/1\">y</a><a name=\"z\"></a></div>",
            "<div><img src=\"data:image/png;base64,aGFs\" alt=\"\" /></div>",
            "<div><!-- <script> --><b >x</b ></div>",
        ] {
            assert!(is_one(right), "{right}");
        }
        for wrong in [
            "x",
            "<p>x</p>",
            "<div/>",
            "<div> </div>",
            "<div>x",
            "<div>x</div>y",
            "<div>x</div><div>y</div>",
            "<div><b>x</div></b>",
            "<div><b></div>",
            "<divx>x</divx>",
            "<div>a & b</div>",
            "<div>a &; b</div>",
            "<div>a < b</div>",
            "<div><script>x</script></div>",
            "<div><SCRIPT>x</SCRIPT></div>",
            "<div><style>x</style></div>",
            "<div><svg>x</svg></div>",
            "<div><form>x</form></div>",
            "<div><input/>x</div>",
            "<div><iframe src=\"https://x\">x</iframe></div>",
            "<div onclick=\"x()\">x</div>",
            "<div><img src=\"x\" onerror = 'x()'/></div>",
            "<div><a href=\"javascript:x()\">x</a></div>",
            "<div><a href=\" JavaScript:x()\">x</a></div>",
            "<div><a href=\"java&#115;cript&#58;x()\">x</a></div>",
            "<div><a href=\"javascript&colon;x()\">x</a></div>",
            "<div><a href=\"data:text/html,x\">x</a></div>",
            "<div><a href=x>x</a></div>",
            "<div a=\"1\"b=\"2\">x</div>",
            "<div xmlns=\"http://www.w3.org/2000/svg\">x</div>",
            "<div><![CDATA[x]]></div>",
            "<!DOCTYPE x><div>x</div>",
            "<div><?php x ?></div>",
        ] {
            assert!(!is_one(wrong), "{wrong}");
        }
    }
}
