//! Rest-hook Subscriptions at a server elsewhere, so that it says itself when something changed.
//!
//! For each type there is one Subscription with an empty payload, under an id that follows from the type and the
//! hook's address: whoever makes it twice, or two replicas of the bridge at once, make one. Where a server takes no ids
//! from clients, it is looked for by its address first. What the server says of it is watched: one in error, off, or
//! near its end is asked for again.
//!
//! A call is a hint and nothing more. It is not stored, because nothing hangs on it: what it tells of is found by the
//! cursor, which is. While all subscriptions are active, changes are looked for rarely without one; a change that was
//! found and not told of ends that, until the next call.

mod route;

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use route::{PATH, router};

use super::Client;
use crate::{
    fhir::{
        id::Id,
        instant::{DateTime, now_micros},
        query::Query,
        resources::{Channel, Resource, ResourceType, Subscription, SubscriptionStatus},
        server::{Condition, FhirError, FhirServer as _},
    },
    service::{
        failure::{Failure, Status},
        secrets::Secret,
    },
};

/// Between two looks at subscriptions that are all right.
const LOOK: Duration = Duration::from_secs(60);
/// The first pause where something is not right yet; it doubles up to [`LOOK`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long a subscription is asked for, in microseconds: one of a bridge that is no more ends by itself.
const LIFE: i64 = 30 * DAY;
/// How long before its end it is asked for again, in microseconds.
const RENEWAL: i64 = 15 * DAY;
const DAY: i64 = 24 * 3600 * 1_000_000;

/// Where the server calls, and by what it is known.
#[derive(Clone, Debug)]
pub struct Hook {
    endpoint: String,
    secret: Secret,
}

/// Keeps the subscriptions of one hook.
#[derive(Debug)]
pub(super) struct Keeper {
    client: Client,
    hook: Hook,
    kinds: Vec<ResourceType>,
}

/// How a subscription stands.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// The server calls.
    Active,
    /// The server was asked and has not said yes.
    Asked,
    /// The server had ended it, and was asked again.
    Renewed(String),
}

// === impl Hook ===

impl Hook {
    /// A hook at `url`, the bridge's address as the server elsewhere reaches it. Without a path it gets [`PATH`].
    ///
    /// # Errors
    /// When it is not an http or https address, or holds what does not belong there.
    pub fn new(url: &str, secret: Secret) -> Result<Self, Failure> {
        let wrong = |text: &str| {
            Err(Failure::new(Status::Config, format!("fhir.server.hook_url: {text}"))
                .remedy(format!("Write for example hook_url = \"https://bridge.example.nl{PATH}\".")))
        };
        let Ok(mut parsed) = reqwest::Url::parse(url) else { return wrong("not an address") };
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return wrong("expected an http or https address");
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return wrong("a password does not belong into an address; the bridge has a secret of its own");
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return wrong("expected no query and no fragment");
        }
        if HeaderValue::from_str(secret.expose()).is_err() || secret.expose().contains(char::is_whitespace) {
            return wrong("the secret in hook_secret_file cannot stand in a header");
        }
        if parsed.path() == "/" {
            parsed.set_path(PATH);
        }
        Ok(Self { endpoint: parsed.into(), secret })
    }

    /// The address that the server is told.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The header line that the server is to send along.
    fn header(&self) -> String {
        format!("Authorization: Bearer {}", self.secret.expose())
    }

    /// The id of the subscription for a type: always the same for the same hook, another one for another bridge.
    fn id(&self, kind: ResourceType) -> Option<Id> {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.endpoint.as_bytes());
        let mark: String = digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("care-federation-{}-{mark}", kind.as_str().to_lowercase()).parse().ok()
    }

    fn subscription(&self, kind: ResourceType) -> Subscription {
        Subscription {
            id: self.id(kind),
            status: Some(SubscriptionStatus::Requested),
            end: Some(DateTime::from_millis(now_micros().saturating_add(LIFE) / 1000)),
            reason: Some("The Matrix bridge reads what changed".to_owned()),
            criteria: Some(format!("{kind}?")),
            channel: Some(Channel {
                kind: Some("rest-hook".to_owned()),
                endpoint: Some(self.endpoint.clone()),
                header: vec![Some(self.header())],
                ..Channel::default()
            }),
            ..Subscription::default()
        }
    }

    /// Whether a subscription asks for what this hook wants, for long enough. A server may keep the header to itself.
    fn is_asked_by(&self, found: &Subscription, wanted: &Subscription) -> bool {
        let (Some(has), Some(wants)) = (&found.channel, &wanted.channel) else { return false };
        let ends = found.end.as_ref().and_then(DateTime::moments).map(|end| end.start);
        found.criteria == wanted.criteria
            && (has.kind.as_ref(), has.endpoint.as_ref()) == (wants.kind.as_ref(), wants.endpoint.as_ref())
            && has.payload.is_none()
            && (has.header.is_empty() || has.header == wants.header)
            && ends.is_none_or(|end| end > now_micros().saturating_add(RENEWAL))
    }
}

/// Keeps subscriptions for these types at a server elsewhere, until `stop`. They are left there: a bridge that starts
/// again finds them.
pub async fn keep(client: Client, hook: Hook, kinds: &[ResourceType], stop: CancellationToken) {
    let keeper = Keeper { client, hook, kinds: kinds.to_vec() };
    let (mut pause, mut said) = (FIRST_PAUSE, None);
    while !stop.is_cancelled() {
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = keeper.look() => outcome,
        };
        // What is the same as before is not said again.
        let now = outcome.as_ref().map_or_else(ToString::to_string, |all| all.to_string());
        let is_news = said.replace(now.clone()) != Some(now);
        match &outcome {
            Ok(true) if is_news => info!(hook = keeper.hook.endpoint, "the FHIR server says what changes"),
            Ok(false) if is_news => info!("the FHIR server was asked to say what changes, and is polled until it does"),
            Err(error) if is_news => warn!(%error, "the FHIR server cannot be asked to say what changes; it is polled"),
            _ => {}
        }
        pause = if matches!(outcome, Ok(true)) { LOOK } else { (pause * 2).min(LOOK) };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if matches!(outcome, Ok(true)) {
            pause = FIRST_PAUSE;
        }
    }
}

// === impl Keeper ===

impl Keeper {
    /// Looks after all subscriptions. Says whether all are active.
    async fn look(&self) -> Result<bool, FhirError> {
        let (mut all_active, mut first_error) = (true, None);
        for kind in &self.kinds {
            match self.look_after(*kind).await {
                Ok(Standing::Active) => {}
                Ok(Standing::Asked) => all_active = false,
                Ok(Standing::Renewed(why)) => {
                    info!(%kind, why, "a subscription is asked for again");
                    all_active = false;
                }
                Err(error) => {
                    debug!(%kind, %error, "no subscription");
                    all_active = false;
                    first_error.get_or_insert(error);
                }
            }
        }
        self.client.told.all_active(all_active);
        first_error.map_or(Ok(all_active), Err)
    }

    async fn look_after(&self, kind: ResourceType) -> Result<Standing, FhirError> {
        let wanted = self.hook.subscription(kind);
        let Some((found, version)) = self.find(&wanted).await? else {
            return self.make(wanted).await.map(|made| standing(&made));
        };
        let why = match &found.status {
            _ if !self.hook.is_asked_by(&found, &wanted) => "it asks for something else, or ends soon".to_owned(),
            // What the server says about the error may name addresses; its log has it.
            Some(SubscriptionStatus::Error) => "the server had trouble to call".to_owned(),
            Some(SubscriptionStatus::Off) => "the server had ended it".to_owned(),
            _ => return Ok(standing(&found)),
        };
        let again = Subscription { id: found.id, ..wanted };
        let condition = version.as_deref().map_or(Condition::Always, Condition::VersionIs);
        match self.client.update(Resource::of(&again), condition).await {
            // Another replica was quicker, or the server itself: the next look tells.
            Ok(_) | Err(FhirError::VersionConflict(_)) => Ok(Standing::Renewed(why)),
            Err(error) => Err(error),
        }
    }

    /// The subscription and its version: under the id of our choice, or under whatever id the server gave it.
    async fn find(&self, wanted: &Subscription) -> Result<Option<(Subscription, Option<String>)>, FhirError> {
        let typed = |resource: &Resource| {
            let version = resource.version().map(str::to_owned);
            resource.to::<Subscription>().ok().map(|subscription| (subscription, version))
        };
        if let Some(id) = &wanted.id {
            match self.client.read(ResourceType::Subscription, id).await {
                Ok(resource) => return Ok(typed(&resource)),
                Err(FhirError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let page = match self.client.search(ResourceType::Subscription, &self.by_address()).await {
            Ok(page) => page,
            // A server that cannot search them has none that this could find.
            Err(FhirError::Invalid(_) | FhirError::NotSupported(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let all = page.matches().filter_map(typed);
        Ok(all.filter(|(found, _)| found.criteria == wanted.criteria).min_by(|(a, _), (b, _)| a.id.cmp(&b.id)))
    }

    async fn make(&self, wanted: Subscription) -> Result<Subscription, FhirError> {
        let (resource, criteria) = (Resource::of(&wanted), wanted.criteria.unwrap_or_default());
        let made = match self.client.update(resource.clone(), Condition::Always).await {
            Err(FhirError::NotSupported(_) | FhirError::NotFound(_) | FhirError::Invalid(_)) => {
                let unless = self.by_address().with("criteria", criteria);
                self.client.create(resource, Some(&unless)).await?
            }
            other => other?,
        };
        made.resource.into_typed().map_err(|error| FhirError::Protocol(error.to_string()))
    }

    fn by_address(&self) -> Query {
        Query::new().with("url", self.hook.endpoint.clone())
    }
}

fn standing(subscription: &Subscription) -> Standing {
    if subscription.status == Some(SubscriptionStatus::Active) { Standing::Active } else { Standing::Asked }
}

/// Whether the server says by itself what changes. Shared by all copies of a client.
#[derive(Debug, Default)]
pub(super) struct Told {
    active: std::sync::atomic::AtomicBool,
    missed: std::sync::atomic::AtomicBool,
    hints: tokio::sync::watch::Sender<u64>,
}

// === impl Told ===

impl Told {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whether it can be relied on.
    pub(super) fn is_reliable(&self) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        self.active.load(Relaxed) && !self.missed.load(Relaxed)
    }

    fn all_active(&self, active: bool) {
        if self.active.swap(active, std::sync::atomic::Ordering::Relaxed) != active {
            // Whoever waits may now wait for longer, or must not any more.
            self.hints.send_modify(|number| *number += 1);
        }
    }

    /// A change was found that no call told of.
    pub(super) fn missed(&self) {
        self.missed.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// A call came.
    pub(super) fn hint(&self) {
        self.missed.store(false, std::sync::atomic::Ordering::Relaxed);
        self.hints.send_modify(|number| *number += 1);
    }

    pub(super) fn subscribe(&self) -> tokio::sync::watch::Receiver<u64> {
        self.hints.subscribe()
    }
}

#[cfg(test)]
mod tests;
