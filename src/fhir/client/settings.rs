//! How to reach a FHIR server elsewhere.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Declares settings that say how a FHIR server is reached, with others beside them.
///
/// The ways to reach a server stand here once. They are fields of each struct rather than a struct of their own that
/// is flattened into them: with `flatten`, errors would lose the key and so the line of what is wrong.
macro_rules! reaching {
    (
        $(#[$about:meta])*
        pub struct $name:ident {
            $(#[$about_base:meta])*
            pub base: $base:ty,
            $($(#[$about_own:meta])* pub $own:ident: $type:ty,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(#[$about_base])*
            pub base: $base,
            /// A file that holds a bearer token. Read again for each request, so it can be renewed.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub token_file: Option<::std::path::PathBuf>,
            /// A PEM file with a client certificate, its chain, and its key.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub certificate_file: Option<::std::path::PathBuf>,
            /// A PEM file with the only authorities to trust; without it, those of the system.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub ca_file: Option<::std::path::PathBuf>,
            /// Log in by SMART backend services.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub smart: Option<$crate::fhir::client::settings::Smart>,
            /// How long an answer may take, in seconds.
            pub timeout_seconds: u64,
            /// How often a call that may be repeated is tried before it counts as failed.
            pub attempts: u32,
            $($(#[$about_own])* pub $own: $type,)*
        }

        impl $name {
            /// How to reach the server at an address, in the ways that are set here.
            pub fn reaching(&self, base: &str) -> $crate::fhir::client::settings::Settings {
                $crate::fhir::client::settings::Settings {
                    base: base.to_owned(),
                    token_file: self.token_file.clone(),
                    certificate_file: self.certificate_file.clone(),
                    ca_file: self.ca_file.clone(),
                    smart: self.smart.clone(),
                    timeout_seconds: self.timeout_seconds,
                    attempts: self.attempts,
                    ..$crate::fhir::client::settings::Settings::default()
                }
            }
        }
    };
}
pub(crate) use reaching;

reaching! {
    /// How to reach a FHIR server elsewhere.
    pub struct Settings {
        /// Its base address, `https://fhir.example.nl/r4`.
        pub base: String,
        /// How to learn what changed.
        pub changes_by: ChangesBy,
        /// Where the server reaches the bridge, `https://bridge.example.nl/fhir-hook`: it is asked to call there when
        /// something changed. Without it, the server is polled.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub hook_url: Option<String>,
        /// A file with the secret that the server sends along when it calls; by default one that the bridge makes.
        /// Several replicas need the same.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub hook_secret_file: Option<PathBuf>,
        /// Seconds between two looks while the server says itself when something changed.
        pub hook_poll_seconds: u64,
    }
}

/// SMART backend services: the OAuth 2 grant `client_credentials` with `private_key_jwt` (SMART App Launch 2.2).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smart {
    /// The id under which the client is registered.
    pub client_id: String,
    /// A PEM file (PKCS #8) with the private key: P-384 for ES384, or RSA for RS384.
    pub key_file: PathBuf,
    /// The key's id in the registered key set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Where tokens are given; without it, what the server's `.well-known/smart-configuration` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// The scopes to ask for.
    #[serde(default = "all_scopes")]
    pub scope: String,
}

/// How to learn what changed on a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangesBy {
    /// `Type?_lastUpdated=ge…&_sort=_lastUpdated`: the newest versions, oldest change first, page by page.
    #[default]
    Search,
    /// `Type/_history?_since=…`: every version; all of them since the last look are held in memory.
    History,
}

fn all_scopes() -> String {
    "system/*.cruds".to_owned()
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            base: String::new(),
            token_file: None,
            certificate_file: None,
            ca_file: None,
            smart: None,
            timeout_seconds: 30,
            attempts: 3,
            changes_by: ChangesBy::default(),
            hook_url: None,
            hook_secret_file: None,
            hook_poll_seconds: 60,
        }
    }
}

impl Settings {
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.max(1))
    }
}
