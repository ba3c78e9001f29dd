//! Steps: each with a name, who took part, how long it took, and the cause when it failed.

use std::{fmt, future::Future, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::report::Report;
use crate::lab::client::ClientError;

/// Longest time for a step. Each waits for what it expects and not for this.
const STEP_TIME: Duration = Duration::from_secs(60);

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// What should be seen was seen.
    Passed,
    /// It was not.
    Failed,
    /// It could not be tried here; the reason is given.
    Skipped,
}

/// A step of the scenario, done.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The part of the scenario that it belongs to.
    pub chapter: &'static str,
    /// What was done.
    pub name: String,
    /// Who did it or saw it.
    pub who: String,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What was seen, or the cause of a failure, or the reason for leaving it out.
    pub detail: String,
    /// The server where it failed, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// Why a step failed.
#[derive(Debug)]
pub struct Trouble {
    server: Option<String>,
    cause: String,
}

/// A step that others need has failed; the chapter ends.
#[derive(Debug)]
pub struct Abandoned;

/// Hears of each step as it ends.
pub trait Narrator {
    /// A step has begun.
    fn begins(&mut self, chapter: &'static str, name: &str);
    /// A step has ended.
    fn ended(&mut self, step: &Step);
}

/// A narrator that says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

/// Collects the steps.
pub struct Recorder {
    narrator: Box<dyn Narrator>,
    step_time: Duration,
    started: Instant,
    chapter: &'static str,
    steps: Vec<Step>,
}

// === impl Silent ===

impl Narrator for Silent {
    fn begins(&mut self, _chapter: &'static str, _name: &str) {}
    fn ended(&mut self, _step: &Step) {}
}

// === impl Trouble ===

impl Trouble {
    /// A cause in words.
    pub fn new(cause: impl Into<String>) -> Self {
        Self { server: None, cause: cause.into() }
    }

    /// Puts what was tried before the cause.
    #[must_use]
    pub fn context(mut self, what: &str) -> Self {
        self.cause = format!("{what}: {}", self.cause);
        self
    }

    /// Names the server where it happened, unless it is known already.
    #[must_use]
    pub fn at(mut self, server: &str) -> Self {
        self.server.get_or_insert_with(|| server.to_owned());
        self
    }
}

impl<E: Into<anyhow::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        let error: anyhow::Error = error.into();
        let server = error.downcast_ref::<ClientError>().and_then(ClientError::server).map(str::to_owned);
        let mut causes: Vec<String> = Vec::new();
        for cause in error.chain().map(ToString::to_string) {
            // Many errors repeat their cause in their own words.
            if !causes.iter().any(|known| known.contains(&cause)) {
                causes.push(cause);
            }
        }
        Self { server, cause: causes.join(": ") }
    }
}

// === impl Recorder ===

impl Recorder {
    /// A recorder with nothing in it.
    pub fn new(narrator: impl Narrator + 'static) -> Self {
        Self {
            narrator: Box::new(narrator),
            step_time: STEP_TIME,
            started: Instant::now(),
            chapter: "",
            steps: Vec::new(),
        }
    }

    /// Begins a part of the scenario.
    pub fn chapter(&mut self, title: &'static str) {
        self.chapter = title;
    }

    /// Takes a step: `work` gives a value for later steps, and what was seen.
    ///
    /// # Errors
    /// [`Abandoned`] when it failed.
    pub async fn step<T>(
        &mut self,
        name: impl Into<String>,
        who: impl Into<String>,
        work: impl Future<Output = Result<(T, String), Trouble>>,
    ) -> Result<T, Abandoned> {
        let name = name.into();
        self.narrator.begins(self.chapter, &name);
        let started = Instant::now();
        let outcome = timeout(self.step_time, work)
            .await
            .unwrap_or_else(|_| Err(Trouble::new(format!("nothing within {:?}", self.step_time))));
        let (value, verdict, detail, server) = match outcome {
            Ok((value, seen)) => (Ok(value), Verdict::Passed, seen, None),
            Err(trouble) => (Err(Abandoned), Verdict::Failed, trouble.cause, trouble.server),
        };
        let seconds = started.elapsed().as_secs_f64();
        self.keep(Step { chapter: self.chapter, name, who: who.into(), verdict, seconds, detail, server });
        value
    }

    /// Notes a step that cannot be tried here.
    pub fn skip(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.keep(Step {
            chapter: self.chapter,
            name: name.into(),
            who: String::new(),
            verdict: Verdict::Skipped,
            seconds: 0.0,
            detail: reason.into(),
            server: None,
        });
    }

    fn keep(&mut self, step: Step) {
        self.narrator.ended(&step);
        self.steps.push(step);
    }

    /// The report on all steps.
    pub fn finish(self, servers: Vec<String>) -> Report {
        Report { servers, seconds: self.started.elapsed().as_secs_f64(), steps: self.steps }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("steps", &self.steps).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_that_hangs_fails_with_a_cause() {
        let mut recorder = Recorder::new(Silent);
        recorder.step_time = Duration::from_millis(5);
        let hanging = std::future::pending::<Result<((), String), Trouble>>();
        assert!(recorder.step("hang", "nobody", hanging).await.is_err());
        let report = recorder.finish(Vec::new());
        assert_eq!(report.steps[0].detail, "nothing within 5ms");
        assert_eq!(report.steps[0].verdict, Verdict::Failed);
    }

    #[test]
    fn the_server_of_a_refusal_is_known() {
        let refused = ClientError::NotSeen { who: "@a:vvt".into(), what: "it".into(), seconds: 1 };
        let trouble = Trouble::from(refused);
        assert_eq!(trouble.server.as_deref(), Some("vvt"));
        assert_eq!(trouble.at("other").server.as_deref(), Some("vvt"));
    }
}
