//! Where the care directory is, and how long its answers count.

use std::time::Duration;

use crate::fhir::client::settings::{Settings as Server, reaching};

reaching! {
    /// Where the care directory is. Without a `base`, the bridge's own FHIR server is the directory.
    pub struct Settings {
        /// The base address of a directory elsewhere, `https://directory.example.nl/fhir`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub base: Option<String>,
        /// How long an answer of a directory elsewhere counts, in seconds.
        pub cache_seconds: u64,
        /// How many answers are remembered.
        pub cache_entries: usize,
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            base: None,
            token_file: None,
            certificate_file: None,
            ca_file: None,
            smart: None,
            timeout_seconds: 10,
            attempts: 2,
            cache_seconds: 600,
            cache_entries: 10_000,
        }
    }
}

// === impl Settings ===

impl Settings {
    /// How to reach the directory elsewhere, if there is one.
    pub fn server(&self) -> Option<Server> {
        self.base.as_deref().map(|base| self.reaching(base))
    }

    /// How long an answer counts.
    pub fn cached_for(&self) -> Duration {
        Duration::from_secs(self.cache_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::settings::parse_toml;

    #[test]
    fn the_ways_to_reach_a_directory_are_those_of_a_fhir_server() {
        let text = "base = \"https://x/fhir\"\ntoken_file = \"t\"\ncache_seconds = 5\n";
        let settings: Settings = parse_toml(text, "f").unwrap();
        let server = settings.server().unwrap();
        assert_eq!((server.base.as_str(), server.timeout_seconds, server.attempts), ("https://x/fhir", 10, 2));
        assert_eq!(server.token_file, settings.token_file);
        assert_eq!((settings.cached_for(), Settings::default().server()), (Duration::from_secs(5), None));
        // What is wrong is told by key and line, of common keys as of own ones.
        for (text, wanted) in [
            ("base = \"x\"\nattempts = \"two\"\n", "f:2: attempts"),
            ("\n\ncache_entries = true\n", "f:3: cache_entries"),
            ("ca_fil = \"x\"\n", "f:1: ca_fil"),
            ("hook_url = \"x\"\n", "f:1: hook_url"),
        ] {
            let failure = parse_toml::<Settings>(text, "f").unwrap_err().to_string();
            assert!(failure.starts_with(wanted), "{failure}");
        }
    }
}
