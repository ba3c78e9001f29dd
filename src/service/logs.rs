//! Logs: structured fields to journald under systemd, readable lines on a terminal, JSON on request.

use std::{env, io};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, Layer as _, Registry, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::failure::{Failure, Status};

/// Where log lines go and how they look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The journal when standard error is connected to it (`$JOURNAL_STREAM`), else text.
    #[default]
    Auto,
    /// Readable lines on standard error.
    Text,
    /// One JSON object a line on standard error.
    Json,
    /// The systemd journal, with the fields as journal fields.
    Journald,
}

/// Starts logging. `RUST_LOG` overrides `level` (a filter such as `info` or `info,hyper=warn`).
///
/// # Errors
/// When the filter is not one, or the journal was asked for and cannot be reached.
pub fn start(format: Format, level: &str) -> Result<(), Failure> {
    let filter = match env::var(EnvFilter::DEFAULT_ENV) {
        Ok(filter) => EnvFilter::try_new(filter),
        Err(_) => EnvFilter::try_new(level),
    }
    .map_err(|error| {
        Failure::new(Status::Config, "the log level is not a filter such as `info` or `info,hyper=warn`").because(error)
    })?;
    let to_journal = match format {
        Format::Journald => true,
        Format::Auto => env::var_os("JOURNAL_STREAM").is_some(),
        Format::Text | Format::Json => false,
    };
    let layer = if to_journal {
        let journal = tracing_journald::layer()
            .map_err(|error| Failure::new(Status::Unavailable, "cannot reach the systemd journal").because(error))?;
        journal.with_field_prefix(None).boxed()
    } else if format == Format::Json {
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed()
    } else {
        let colours = env::var_os("NO_COLOR").is_none() && io::IsTerminal::is_terminal(&io::stderr());
        tracing_subscriber::fmt::layer().with_target(false).with_ansi(colours).with_writer(io::stderr).boxed()
    };
    Registry::default()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(|error| Failure::new(Status::Failed, "logging was started twice").because(error))
}
