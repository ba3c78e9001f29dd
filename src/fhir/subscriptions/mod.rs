//! Rest-hook Subscriptions (R4, 2.46) with an empty payload: "something changed, come and read".
//!
//! What is owed is kept by the repository with the change itself, so a call may come twice but never not at all.

pub mod guard;

use std::{collections::HashSet, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::guard::{Guard, GuardedResolver};
use super::{
    id::Id,
    instant::now_micros,
    numbers::Numbers,
    repository::{Owed, Repository},
    resources::{ResourceType, Subscription, SubscriptionStatus},
    server::{FhirError, FhirServer as _},
};
use crate::service::failure::{Failure, Status};

/// Calls that are under way at once.
const AT_ONCE: usize = 16;
/// How often to look when nothing says that there is something to do: another replica may have died before it called.
const IDLE: Duration = Duration::from_secs(10);

/// How hooks are called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where hooks may be called.
    pub guard: Guard,
    /// How long a call may take, in seconds.
    pub timeout_seconds: u64,
    /// The pause after the first failure, in milliseconds; it doubles with each.
    pub first_pause_milliseconds: u64,
    /// The longest pause, in seconds.
    pub longest_pause_seconds: u64,
    /// After so many failures in a row the subscription says `error`; calls go on.
    pub error_after: u32,
    /// After so many failures in a row the subscription is `off`.
    pub off_after: u32,
}

/// Calls the hooks of one repository.
#[derive(Debug, Clone)]
struct Caller {
    repository: Repository,
    settings: Arc<Settings>,
    http: reqwest::Client,
    numbers: Numbers,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            guard: Guard::default(),
            timeout_seconds: 10,
            first_pause_milliseconds: 1000,
            longest_pause_seconds: 900,
            error_after: 5,
            off_after: 500,
        }
    }
}

impl Settings {
    /// The pause before the next call, in microseconds, after so many failures in a row; half of it is by chance.
    fn pause(&self, failures: u32) -> i64 {
        let first = Duration::from_millis(self.first_pause_milliseconds.max(1));
        let pause = first.saturating_mul(1 << failures.min(20)).min(Duration::from_secs(self.longest_pause_seconds));
        let mut chance = [0_u8; 2];
        let _ = SystemRandom::new().fill(&mut chance);
        let share = 0.5 + f64::from(u16::from_be_bytes(chance)) / f64::from(u16::MAX) / 2.0;
        i64::try_from(pause.mul_f64(share).as_micros()).unwrap_or(i64::MAX)
    }
}

/// Calls the hooks that are owed a call, until `stop`.
///
/// # Errors
/// When connections cannot be prepared. A hook that fails is no error of this.
pub async fn deliver(
    repository: Repository,
    settings: Settings,
    numbers: Numbers,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .timeout(Duration::from_secs(settings.timeout_seconds.max(1)))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Arc::new(GuardedResolver(settings.guard.clone())))
        .build()
        .map_err(|error| {
            Failure::new(Status::Config, "connections to FHIR subscribers cannot be prepared").because(error)
        })?;
    let caller = Caller { repository, settings: Arc::new(settings), http, numbers };
    caller.run(stop).await;
    Ok(())
}

// === impl Caller ===

impl Caller {
    async fn run(self, stop: CancellationToken) {
        let mut hints = self.repository.hints();
        let mut calls = JoinSet::new();
        let mut busy: HashSet<Id> = HashSet::new();
        loop {
            hints.mark_unchanged();
            let owed = self.repository.owed().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot read which subscriptions are owed a call");
                Vec::new()
            });
            let now = now_micros();
            let mut wait = IDLE;
            for owed in owed.into_iter().filter(|owed| !busy.contains(&owed.id)).collect::<Vec<_>>() {
                if owed.due > now {
                    let until = u64::try_from(owed.due - now).unwrap_or(u64::MAX);
                    wait = wait.min(Duration::from_micros(until));
                } else if calls.len() < AT_ONCE {
                    busy.insert(owed.id.clone());
                    let caller = self.clone();
                    calls.spawn(async move {
                        let id = owed.id.clone();
                        if let Err(error) = caller.serve(owed).await {
                            tracing::warn!(subscription = %id, %error, "a subscription could not be served");
                        }
                        id
                    });
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                Some(done) = calls.join_next() => match done {
                    Ok(id) => { busy.remove(&id); }
                    // A task that was broken off does not say which it was; all may be tried again.
                    Err(_) => busy.clear(),
                },
                changed = hints.changed(), if calls.len() < AT_ONCE => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Calls one hook and takes note of how it went.
    async fn serve(&self, owed: Owed) -> Result<(), FhirError> {
        let patience =
            i64::try_from(self.settings.timeout_seconds.max(1)).unwrap_or(i64::MAX).saturating_mul(2_000_000);
        if !self.repository.take(owed.clone(), now_micros().saturating_add(patience)).await? {
            // Another replica calls.
            return Ok(());
        }
        let read = self.repository.read(ResourceType::Subscription, &owed.id).await?;
        let subscription: Subscription = read.into_typed().map_err(|error| FhirError::Protocol(error.to_string()))?;
        let ended = subscription.end.as_ref().and_then(|end| end.moments()).is_some_and(|end| end.end <= now_micros());
        if ended {
            return self.repository.set_subscription(owed.id, SubscriptionStatus::Off, None).await;
        }
        let called = self.call(&subscription).await;
        self.numbers.called(called.is_ok());
        match called {
            Ok(()) => self.repository.delivered(owed).await,
            Err(text) => {
                let due = now_micros().saturating_add(self.settings.pause(owed.attempts));
                let failures = self.repository.failed(owed.id.clone(), due).await?;
                tracing::info!(subscription = %owed.id, failures, "a subscriber could not be called: {text}");
                if failures >= self.settings.off_after {
                    self.repository.set_subscription(owed.id, SubscriptionStatus::Off, Some(text)).await
                } else if failures >= self.settings.error_after {
                    self.repository.set_subscription(owed.id, SubscriptionStatus::Error, Some(text)).await
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Makes the call; an error says in words what went wrong.
    async fn call(&self, subscription: &Subscription) -> Result<(), String> {
        let channel = subscription.channel.as_ref().ok_or("there is no channel")?;
        let url = self.settings.guard.check(channel.endpoint.as_deref().unwrap_or_default())?;
        let headers = headers(channel.header.iter().flatten())?;
        let answer = self.http.post(url).headers(headers).header(http::header::CONTENT_LENGTH, 0).send().await;
        let answer = answer.map_err(|error| {
            let error = error.without_url();
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        })?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("the endpoint answered with status {status}")),
        }
    }
}

/// The header lines of a channel, `Name: value`. Those that shape the connection are not the subscriber's to set.
fn headers<'a>(lines: impl Iterator<Item = &'a String>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a header of the channel is not `Name: value`")?;
        let name: HeaderName = name.trim().parse().map_err(|_| "a header of the channel has no legal name")?;
        let forbidden = ["host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer"];
        if forbidden.contains(&name.as_str()) {
            return Err(format!("the header {name} cannot be set by a channel"));
        }
        let mut value: HeaderValue = value.trim().parse().map_err(|_| "a header of the channel has no legal value")?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
