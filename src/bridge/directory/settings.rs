//! Where the care directory is, and how long its answers count.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::fhir::client::settings::{Settings as Server, Smart};

/// Where the care directory is. Without a `base`, the bridge's own FHIR server is the directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The base address of a directory elsewhere, `https://directory.example.nl/fhir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// A file that holds a bearer token. Read again for each request, so it can be renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// A PEM file with a client certificate, its chain, and its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// A PEM file with the only authorities to trust; without it, those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Log in by SMART backend services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smart: Option<Smart>,
    /// How long an answer may take, in seconds.
    pub timeout_seconds: u64,
    /// How often a question is asked before it counts as failed.
    pub attempts: u32,
    /// How long an answer of a directory elsewhere counts, in seconds.
    pub cache_seconds: u64,
    /// How many answers are remembered.
    pub cache_entries: usize,
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
        Some(Server {
            base: self.base.clone()?,
            token_file: self.token_file.clone(),
            certificate_file: self.certificate_file.clone(),
            ca_file: self.ca_file.clone(),
            smart: self.smart.clone(),
            timeout_seconds: self.timeout_seconds,
            attempts: self.attempts,
            ..Server::default()
        })
    }

    /// How long an answer counts.
    pub fn cached_for(&self) -> Duration {
        Duration::from_secs(self.cache_seconds)
    }
}
