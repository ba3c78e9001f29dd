//! Settings of the connection to the homeserver.

use std::{path::PathBuf, time::Duration};

use ruma::{OwnedServerName, owned_server_name};
use serde::{Deserialize, Serialize};

/// Where the homeserver is and how patient the program is with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Base URL of its client API.
    pub url: String,
    /// Its name: the part of Matrix ids after the colon. It need not be in the URL.
    pub server_name: OwnedServerName,
    /// Certificates (PEM) to trust besides the system's, for `https:`.
    pub ca_file: Option<PathBuf>,
    /// Seconds for a connection to be made.
    pub connect_seconds: u64,
    /// Seconds in which the homeserver must begin to answer, and in which more of an answer must come.
    pub answer_seconds: u64,
    /// Seconds for one call with all its repetitions. The engine above has its own, longer patience.
    pub patience_seconds: u64,
    /// Largest file that is uploaded or downloaded, in bytes.
    pub media_bytes: u64,
}

impl Default for Settings {
    /// The lab's homeserver that has the bridge. A join over federation may take a minute.
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8038".to_owned(),
            server_name: owned_server_name!("vvt"),
            ca_file: None,
            connect_seconds: 10,
            answer_seconds: 90,
            patience_seconds: 60,
            media_bytes: 50 << 20,
        }
    }
}

// === impl Settings ===

impl Settings {
    pub(super) fn connecting(&self) -> Duration {
        Duration::from_secs(self.connect_seconds)
    }

    pub(super) fn answering(&self) -> Duration {
        Duration::from_secs(self.answer_seconds)
    }

    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_seconds)
    }
}
