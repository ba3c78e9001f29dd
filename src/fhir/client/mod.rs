//! The REST client for a FHIR R4 server elsewhere.

mod changes;
pub mod check;
mod exchange;
pub mod hooks;
mod login;
pub mod settings;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::FutureExt as _;
use http::{Method, StatusCode};
use tokio::sync::watch;

use self::{
    exchange::{Body, Call, Reply, located},
    hooks::Told,
    login::{Backend, Login},
    settings::Settings,
};
use super::{
    id::{Id, Key},
    instant::DateTime,
    query::{Query, encode},
    resources::{Bundle, CapabilityStatement, Resource, ResourceType},
    server::{
        Answer, Changes, Condition, Cursor, Effect, Entry, FhirError, FhirServer, HistoryOf, Mode, Page, PageLink,
        Written,
    },
};
use crate::service::{
    failure::{Failure, Status},
    files,
    secrets::Secret,
};

/// Largest file of certificates, in bytes.
const CERTIFICATES: u64 = 1024 * 1024;
/// Addresses longer than this are sent as a form: servers and proxies take no longer lines.
const LONGEST_ADDRESS: usize = 2000;

/// A client of one FHIR server. Copies share connections and tokens.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    settings: Arc<Settings>,
    login: Arc<Login>,
    told: Arc<Told>,
}

// === impl Client ===

impl Client {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the settings are wrong, or a file that they name.
    pub fn new(settings: Settings) -> Result<Self, Failure> {
        let base = settings.base.trim_end_matches('/').to_owned();
        let url = reqwest::Url::parse(&base).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if url.is_none_or(|url| !url.has_host()) {
            return Err(Failure::new(Status::Config, "the FHIR server's base is not an http or https address")
                .remedy("Write for example base = \"https://fhir.example.nl/r4\"."));
        }
        let http = connections(&settings, &base)?;
        let login = match (&settings.smart, &settings.token_file) {
            (Some(_), Some(_)) => {
                return Err(Failure::new(
                    Status::Config,
                    "either a token or SMART logs in at the FHIR server, not both",
                ));
            }
            (Some(smart), None) => Login::Smart(Box::new(Backend::new(smart.clone(), &base)?)),
            (None, Some(path)) => {
                Secret::read(path)?;
                Login::File(path.clone())
            }
            (None, None) => Login::None,
        };
        let (settings, login) = (Arc::new(settings), Arc::new(login));
        Ok(Self { http, base, settings, login, told: Told::new() })
    }

    /// The server's base address, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Says that something may have changed: a notification came.
    pub fn hint(&self) {
        self.told.hint();
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// A resource that must be there.
    async fn resource(&self, path: &str, key: Key) -> Result<Resource, FhirError> {
        let reply = self.call(Call::get(self.url(path))).await.map_err(|error| match error {
            FhirError::NotFound(_) => FhirError::not_found(&key),
            other => other,
        })?;
        let resource = reply.resource.ok_or_else(|| FhirError::Protocol("an empty answer to a read".to_owned()))?;
        if resource.kind() != Some(key.kind) || resource.id().as_ref() != Some(&key.id) {
            return Err(FhirError::Protocol(format!("another resource was read than {key}")));
        }
        Ok(resource)
    }

    /// What a write did; where the server did not send the resource back, it is read.
    async fn written(&self, reply: Reply, kind: ResourceType, otherwise: Effect) -> Result<Written, FhirError> {
        let effect = if reply.status == StatusCode::CREATED { Effect::Created } else { otherwise };
        if let Some(resource) = reply.resource.filter(|resource| resource.kind() == Some(kind)) {
            return Ok(Written { resource, effect });
        }
        let key = reply.location.as_deref().and_then(located).filter(|key| key.kind == kind);
        let key =
            key.ok_or_else(|| FhirError::Protocol("a write was answered without saying what it wrote".to_owned()))?;
        let resource = self.read(kind, &key.id).await?;
        Ok(Written { resource, effect })
    }

    async fn page(&self, call: Call) -> Result<Page, FhirError> {
        let reply = self.call(call).await?;
        let resource = reply.resource.ok_or_else(|| FhirError::Protocol("an empty answer to a search".to_owned()))?;
        let bundle: Bundle = resource.into_typed().map_err(|error| FhirError::Protocol(error.to_string()))?;
        let next = bundle.link("next").map(|url| PageLink(url.to_owned()));
        let entries = bundle.entry.into_iter().filter_map(|entry| {
            let mode = match entry.search.as_ref().and_then(|search| search.mode.as_deref()) {
                Some("include") => Mode::Include,
                Some("outcome") => Mode::Outcome,
                _ => Mode::Match,
            };
            let by_post = entry.request.as_ref().is_some_and(|request| request.method.as_deref() == Some("POST"));
            // An entry without a resource is one that was deleted.
            Some(Entry { resource: entry.resource?, mode, by_post })
        });
        Ok(Page { total: bundle.total, entries: entries.collect(), next })
    }

    /// The address of a page: always on this server, wherever the link points. A token must go nowhere else, and
    /// servers behind a proxy give their inner names.
    fn address(&self, link: &str) -> Result<String, FhirError> {
        let wrong = || FhirError::Protocol("a link to a page is not an address".to_owned());
        let base = reqwest::Url::parse(&format!("{}/", self.base)).map_err(|_| wrong())?;
        let mut url = base.join(link).map_err(|_| wrong())?;
        if url.origin() != base.origin() {
            url.set_scheme(base.scheme()).map_err(|()| wrong())?;
            url.set_host(base.host_str()).map_err(|_| wrong())?;
            url.set_port(base.port()).map_err(|()| wrong())?;
        }
        url.set_username("").map_err(|()| wrong())?;
        url.set_password(None).map_err(|()| wrong())?;
        Ok(url.into())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

fn connections(settings: &Settings, base: &str) -> Result<reqwest::Client, Failure> {
    // Installed already when another part of the program came first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let wrong = |path: &std::path::Path, what: &str| {
        Failure::new(Status::Config, format!("{} does not hold {what} in PEM", path.display()))
    };
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.timeout())
        .timeout(settings.timeout())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    if let Some(path) = &settings.ca_file {
        let pem = files::read_text(path, CERTIFICATES)?;
        let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).unwrap_or_default();
        if certificates.is_empty() {
            return Err(wrong(path, "certificates"));
        }
        builder = builder.tls_certs_only(certificates);
    } else if base.starts_with("http://") {
        // Nothing to verify, so nothing to load: a small container may have no authorities at all.
        builder = builder.tls_certs_only([]);
    }
    if let Some(path) = &settings.certificate_file {
        let pem = Secret::read(path)?;
        let identity = reqwest::Identity::from_pem(pem.expose().as_bytes());
        builder = builder.identity(identity.map_err(|_| wrong(path, "a certificate and its key"))?);
    }
    builder.build().map_err(|error| {
        Failure::new(Status::Config, "connections to the FHIR server cannot be prepared").because(error)
    })
}

fn to_json(resource: Resource) -> Option<Body> {
    Some(Body::Json(resource.to_json()))
}

impl FhirServer for Client {
    fn capabilities(&self) -> Answer<'_, CapabilityStatement> {
        async {
            let reply = self.call(Call::get(self.url("metadata"))).await?;
            let resource = reply.resource.ok_or_else(|| FhirError::Protocol("no CapabilityStatement".to_owned()))?;
            resource.into_typed().map_err(|error| FhirError::Protocol(error.to_string()))
        }
        .boxed()
    }

    fn read<'a>(&'a self, kind: ResourceType, id: &'a Id) -> Answer<'a, Resource> {
        async move { self.resource(&format!("{kind}/{id}"), Key::new(kind, id.clone())).await }.boxed()
    }

    fn vread<'a>(&'a self, kind: ResourceType, id: &'a Id, version: &'a str) -> Answer<'a, Resource> {
        async move {
            let key = Key { kind, id: id.clone(), version: Some(version.to_owned()) };
            self.resource(&format!("{kind}/{id}/_history/{}", encode(version)), key).await
        }
        .boxed()
    }

    fn create<'a>(&'a self, mut resource: Resource, unless: Option<&'a Query>) -> Answer<'a, Written> {
        async move {
            let kind = known(&resource)?;
            resource.members_mut().shift_remove("id");
            let call = Call {
                method: Method::POST,
                url: self.url(kind.as_str()),
                headers: Vec::new(),
                body: to_json(resource),
                // A conditional create can be made twice with one effect; a plain one cannot.
                repeatable: unless.is_some(),
            }
            .with("prefer", "return=representation");
            let call = match unless {
                Some(query) => call.with("if-none-exist", query.to_string()),
                None => call,
            };
            let reply = self.call(call).await.map_err(|error| match error {
                // The only condition of a create is that not several match.
                FhirError::VersionConflict(outcome) if unless.is_some() => FhirError::MultipleMatches(outcome),
                other => other,
            })?;
            self.written(reply, kind, Effect::Unchanged).await
        }
        .boxed()
    }

    fn update<'a>(&'a self, resource: Resource, only_if: Condition<'a>) -> Answer<'a, Written> {
        async move {
            let key = resource.key().ok_or_else(|| FhirError::Protocol("an update needs type and id".to_owned()))?;
            let call = Call {
                method: Method::PUT,
                url: self.url(&key.to_string()),
                headers: Vec::new(),
                body: to_json(resource),
                // With a condition, the second of two equal updates would fail on what the first one did.
                repeatable: only_if == Condition::Always,
            }
            .with("prefer", "return=representation");
            let call = call.only_if(only_if);
            let reply = self.call(call).await?;
            self.written(reply, key.kind, Effect::Updated).await
        }
        .boxed()
    }

    fn update_where<'a>(&'a self, resource: Resource, query: &'a Query, only_if: Condition<'a>) -> Answer<'a, Written> {
        async move {
            let kind = known(&resource)?;
            let call = Call {
                method: Method::PUT,
                url: self.url(&format!("{kind}?{query}")),
                headers: Vec::new(),
                body: to_json(resource),
                repeatable: only_if == Condition::Always,
            }
            .with("prefer", "return=representation")
            .only_if(only_if);
            let reply = self.call(call).await.map_err(|error| match error {
                FhirError::VersionConflict(outcome) if only_if == Condition::Always => {
                    FhirError::MultipleMatches(outcome)
                }
                other => other,
            })?;
            self.written(reply, kind, Effect::Updated).await
        }
        .boxed()
    }

    fn search<'a>(&'a self, kind: ResourceType, query: &'a Query) -> Answer<'a, Page> {
        async move {
            let text = query.to_string();
            let url = self.url(kind.as_str());
            if text.len() > LONGEST_ADDRESS {
                let body = Some(Body::Form(text));
                let url = format!("{url}/_search");
                return self
                    .page(Call { method: Method::POST, url, headers: Vec::new(), body, repeatable: true })
                    .await;
            }
            let url = if text.is_empty() { url } else { format!("{url}?{text}") };
            self.page(Call::get(url)).await
        }
        .boxed()
    }

    fn history<'a>(&'a self, of: HistoryOf<'a>, since: Option<&'a DateTime>, count: Option<u32>) -> Answer<'a, Page> {
        async move {
            let path = match of {
                HistoryOf::Instance(kind, id) => format!("{kind}/{id}/_history"),
                HistoryOf::Type(kind) => format!("{kind}/_history"),
                HistoryOf::System => "_history".to_owned(),
            };
            let mut query = Query::new();
            if let Some(since) = since {
                query = query.with("_since", since.as_str());
            }
            if let Some(count) = count {
                query = query.with("_count", count.to_string());
            }
            let query = if query.is_empty() { String::new() } else { format!("?{query}") };
            self.page(Call::get(self.url(&format!("{path}{query}")))).await
        }
        .boxed()
    }

    fn follow<'a>(&'a self, link: &'a PageLink) -> Answer<'a, Page> {
        async move { self.page(Call::get(self.address(&link.0)?)).await }.boxed()
    }

    fn transact(&self, bundle: Bundle) -> Answer<'_, Bundle> {
        async move {
            let call = Call {
                method: Method::POST,
                url: self.base.clone(),
                headers: Vec::new(),
                body: to_json(Resource::of(&bundle)),
                repeatable: false,
            };
            let reply = self.call(call).await?;
            let resource =
                reply.resource.ok_or_else(|| FhirError::Protocol("an empty answer to a bundle".to_owned()))?;
            resource.into_typed().map_err(|error| FhirError::Protocol(error.to_string()))
        }
        .boxed()
    }

    fn changes<'a>(&'a self, kinds: &'a [ResourceType], since: Option<&'a Cursor>, limit: u32) -> Answer<'a, Changes> {
        self.changed(kinds, since, limit).boxed()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    fn pace(&self) -> Option<Duration> {
        self.told.is_reliable().then(|| Duration::from_secs(self.settings.hook_poll_seconds.max(1)))
    }

    fn missed_a_hint(&self) {
        self.told.missed();
    }
}

fn known(resource: &Resource) -> Result<ResourceType, FhirError> {
    resource.kind().ok_or_else(|| FhirError::NotSupported("this resource type is not known".to_owned()))
}

#[cfg(test)]
mod tests;
