//! Errors for people: what failed, where, and what to do, with a standard exit status.

use std::{error::Error, fmt, process::ExitCode};

/// Exit status of a program, after `sysexits.h`, so that scripts and units can tell mistakes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Something that the program was asked to check or do failed (1).
    Failed = 1,
    /// The command line was wrong (64, `EX_USAGE`).
    Usage = 64,
    /// Input data was wrong (65, `EX_DATAERR`).
    Data = 65,
    /// An input file was missing or unreadable (66, `EX_NOINPUT`).
    NoInput = 66,
    /// A service or a program that is needed is not there (69, `EX_UNAVAILABLE`).
    Unavailable = 69,
    /// Output could not be created (73, `EX_CANTCREAT`).
    CannotCreate = 73,
    /// Reading or writing failed, for example on a full disk (74, `EX_IOERR`).
    Io = 74,
    /// Worth trying again later (75, `EX_TEMPFAIL`).
    Temporary = 75,
    /// Permission is missing (77, `EX_NOPERM`).
    NoPermission = 77,
    /// The settings are wrong (78, `EX_CONFIG`).
    Config = 78,
    /// Interrupted by the user (130, as shells report SIGINT).
    Interrupted = 130,
}

/// An error with the sentence that a person needs, a remedy where one is known, and an exit status.
#[derive(Debug)]
pub struct Failure {
    status: Status,
    what: String,
    remedy: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

// === impl Failure ===

impl Failure {
    /// A failure that is described by one sentence: what failed and where.
    pub fn new(status: Status, what: impl Into<String>) -> Self {
        Self { status, what: what.into(), remedy: None, source: None }
    }

    /// Adds what the reader should do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The exit status that this failure asks for.
    pub fn status(&self) -> Status {
        self.status
    }

    /// What to do about it, where that is known.
    pub fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as &(dyn Error + 'static))
    }
}

/// The exit status of an error: that of the outermost [`Failure`] in its chain, else [`Status::Failed`].
pub fn status_of(error: &anyhow::Error) -> Status {
    error.chain().find_map(|cause| cause.downcast_ref::<Failure>()).map_or(Status::Failed, Failure::status)
}

/// The error as it is shown to a person: `program: what: cause: cause`, and the remedies on lines of their own.
///
/// Causes that only repeat what stands before them are left out.
pub fn explain(program: &str, error: &anyhow::Error) -> String {
    let mut text = format!("{program}: ");
    let mut last = String::new();
    for cause in error.chain() {
        let sentence = cause.to_string();
        if last.contains(&sentence) {
            continue;
        }
        if !last.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&sentence);
        last = sentence;
    }
    for remedy in error.chain().filter_map(|cause| cause.downcast_ref::<Failure>()?.remedy_text()) {
        text.push_str("\n  ");
        text.push_str(remedy);
    }
    text
}

/// Ends a program: prints the explanation to standard error and returns the exit status.
pub fn finish(program: &str, result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", explain(program, &error));
            ExitCode::from(status_of(&error) as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn an_explanation_holds_causes_once_and_the_remedy() {
        let inner = Failure::new(Status::Io, "cannot write /x").remedy("free some space").because("disk full");
        let error = Err::<(), _>(inner).context("issuing vvt").unwrap_err();
        assert_eq!(explain("p", &error), "p: issuing vvt: cannot write /x: disk full\n  free some space");
        assert_eq!(status_of(&error), Status::Io);
    }

    #[test]
    fn an_error_without_a_failure_exits_with_one() {
        assert_eq!(status_of(&anyhow::anyhow!("x")), Status::Failed);
    }
}
