//! The `Authorization: X-Matrix` header between servers (Matrix server-server API, "Request Authentication").

/// Who signed a request, and for whom. The signature itself is the homeserver's to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XMatrix {
    /// The server that sent the request.
    pub origin: String,
    /// The server that it is meant for. Servers before Matrix 1.3 leave it out.
    pub destination: Option<String>,
}

/// Why a header is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is not a list of parameters.
    #[error("the X-Matrix header is malformed")]
    Syntax,
    /// A parameter stands there twice. Two programs could each take another one.
    #[error("the X-Matrix header gives a parameter twice")]
    Twice,
    /// The origin, the key or the signature is missing.
    #[error("the X-Matrix header lacks its origin, key or signature")]
    Incomplete,
}

const SCHEME: &[u8] = b"X-Matrix";

/// The parameters of an `Authorization` value of the scheme X-Matrix; `None` for another scheme.
pub fn parameters(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    let space = |byte: &u8| matches!(byte, b' ' | b'\t');
    (scheme.eq_ignore_ascii_case(SCHEME) && rest.first().is_none_or(space)).then_some(rest)
}

// === impl XMatrix ===

impl XMatrix {
    /// Reads the parameters: names in any case and order, values as tokens or quoted strings with escapes, colons
    /// allowed in tokens (as older servers write them), unknown parameters ignored.
    ///
    /// Stricter than the specification on purpose: homeservers differ in how they split the list, and a header that
    /// one reads as signed by a member and another as signed by a stranger must not pass. So nothing may stand twice,
    /// and no value may hold a comma or a quote, which no server name, key id or signature does.
    ///
    /// # Errors
    /// When it is not such a list.
    pub fn parse(parameters: &[u8]) -> Result<Self, Malformed> {
        let text = str::from_utf8(parameters).map_err(|_| Malformed::Syntax)?;
        let mut known: [(&str, Option<String>); 4] =
            [("origin", None), ("destination", None), ("key", None), ("sig", None)];
        let mut names = Vec::new();
        for parameter in text.split(',').map(trim).filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or(Malformed::Syntax)?;
            let (name, value) = (name.to_ascii_lowercase(), unquote(value)?);
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(Malformed::Syntax);
            }
            if names.contains(&name) {
                return Err(Malformed::Twice);
            }
            if let Some((_, place)) = known.iter_mut().find(|(known, _)| *known == name) {
                *place = Some(value);
            }
            names.push(name);
            if names.len() > 16 {
                return Err(Malformed::Syntax);
            }
        }
        match known.map(|(_, value)| value.filter(|value| !value.is_empty())) {
            [Some(origin), destination, Some(_), Some(_)] => Ok(Self { origin, destination }),
            _ => Err(Malformed::Incomplete),
        }
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// A value as a token, with colons and the characters of base64 allowed, or as a quoted string.
fn unquote(value: &str) -> Result<String, Malformed> {
    let Some(rest) = value.strip_prefix('"') else {
        let plain = value.bytes().all(|byte| is_token(byte) || matches!(byte, b':' | b'/' | b'=' | b'[' | b']'));
        return if plain { Ok(value.to_owned()) } else { Err(Malformed::Syntax) };
    };
    let inner = rest.strip_suffix('"').ok_or(Malformed::Syntax)?;
    let mut plain = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        let character = match character {
            '\\' => characters.next().ok_or(Malformed::Syntax)?,
            other => other,
        };
        if !character.is_ascii_graphic() || matches!(character, '"' | '\\') {
            return Err(Malformed::Syntax);
        }
        plain.push(character);
    }
    Ok(plain)
}

/// A character of a token (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(header: &str) -> Result<XMatrix, Malformed> {
        XMatrix::parse(parameters(header.as_bytes()).expect("the scheme"))
    }

    fn from(origin: &str, destination: Option<&str>) -> XMatrix {
        XMatrix { origin: origin.to_owned(), destination: destination.map(str::to_owned) }
    }

    #[test]
    fn the_forms_of_the_specification_are_read() {
        for header in [
            r#"X-Matrix origin="vvt",destination="huisarts",key="ed25519:a",sig="AB/+=""#,
            r#"x-matrix   SIG=AB/+=, Key=ed25519:a ,	destination=huisarts,Origin=vvt"#,
            r#"X-Matrix ,origin="v\vt",,destination=huisarts,key="ed25519:a",sig="AB",next="thing","#,
        ] {
            assert_eq!(parse(header), Ok(from("vvt", Some("huisarts"))), "{header}");
        }
        assert_eq!(parse(r#"X-Matrix origin=vvt:8448,key=k,sig=s"#), Ok(from("vvt:8448", None)));
    }

    #[test]
    fn what_homeservers_could_read_differently_is_refused() {
        for (header, why) in [
            (r#"X-Matrix origin=vvt,key=k,sig=s,ORIGIN=rogue"#, Malformed::Twice),
            (r#"X-Matrix origin=vvt,key=k,sig=s,x="a,origin=rogue,b""#, Malformed::Syntax),
            (r#"X-Matrix origin="vvt" ,key=k,sig=s,x="\",origin=rogue""#, Malformed::Syntax),
            (r#"X-Matrix origin="vvt"rogue,key=k,sig=s"#, Malformed::Syntax),
            (r#"X-Matrix origin = vvt,key=k,sig=s"#, Malformed::Syntax),
            (r#"X-Matrix origin="v vt",key=k,sig=s"#, Malformed::Syntax),
            (r#"X-Matrix origin="vvt,key=k,sig=s"#, Malformed::Syntax),
            (r#"X-Matrix origin="",key=k,sig=s"#, Malformed::Incomplete),
            (r#"X-Matrix origin=vvt,key=k"#, Malformed::Incomplete),
            (r#"X-Matrix"#, Malformed::Incomplete),
        ] {
            assert_eq!(parse(header), Err(why), "{header}");
        }
    }

    #[test]
    fn other_schemes_are_not_x_matrix() {
        for header in ["Bearer abc", "X-MatrixY origin=a", "X-Matri", ""] {
            assert_eq!(parameters(header.as_bytes()), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(origin in "[a-z0-9.-]{1,20}(:[0-9]{1,5})?", quoted: bool, upper: bool) {
            let name = if upper { "ORIGIN" } else { "origin" };
            let value = if quoted { format!("\"{origin}\"") } else { origin.clone() };
            prop_assert_eq!(parse(&format!("X-Matrix {name}={value},key=k,sig=s")), Ok(from(&origin, None)));
        }

        #[test]
        fn no_header_makes_the_parser_panic(header in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = XMatrix::parse(&header);
        }

        #[test]
        fn the_origin_that_is_read_stands_in_the_header_once(
            header in r#"(origin|key|sig|x)="?[a-c,="\\ ]{0,6}"?(,(origin|key|sig|x)="?[a-c,="\\ ]{0,6}"?){0,5}"#,
        ) {
            if let Ok(read) = XMatrix::parse(header.as_bytes()) {
                // Split naively at every comma, as some homeservers do, there is one origin and it is the same.
                let naive: Vec<_> = header.split(',').filter_map(|part| part.trim().strip_prefix("origin=")).collect();
                prop_assert_eq!(naive.len(), 1);
                prop_assert_eq!(unquote(naive[0]).unwrap(), read.origin);
            }
        }
    }
}
