//! Versions as entity tags: always weak, `W/"3"` (R4, 3.1.0.1.3).

/// The ETag of a version.
pub fn write(version: &str) -> String {
    format!("W/\"{version}\"")
}

/// The version in an ETag, weak or strong, with or without its quotes, as clients send them.
pub fn read(etag: &str) -> String {
    etag.trim().trim_start_matches("W/").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_usual_forms_are_read() {
        for etag in ["W/\"3\"", "\"3\"", "3", " W/\"3\" "] {
            assert_eq!(super::read(etag), "3");
        }
        assert_eq!(super::write("3"), "W/\"3\"");
    }
}
