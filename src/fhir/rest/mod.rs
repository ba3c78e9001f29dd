//! The REST interface of a FHIR server (R4, 3.1.0), whoever it is that answers behind it.

pub mod access;
mod audit;
mod bundle;
mod duplicates;
mod negotiate;
pub mod openapi;
mod reply;
mod rights;
mod route;
mod shorten;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
    routing::any,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use http_body_util::LengthLimitError;
use tracing::Instrument as _;

use self::{
    access::{Access, Client, Right, Scopes},
    negotiate::Return,
    reply::{Refusal, Reply, bad, conditional, unsupported_media},
    rights::{need, need_criteria, need_to_find},
    route::Interaction,
    shorten::{PARAMETERS, Part},
};
use super::{
    capability,
    id::Id,
    instant::DateTime,
    numbers::Numbers,
    pages,
    query::Query,
    repository,
    resources::{Issue, IssueType, NotThisResource, OperationOutcome, Resource, ResourceType, Severity},
    server::{Effect, FhirServer, HistoryOf, Mode, Only, PageLink, Written},
};
use crate::service::trace::{self, Trace};

/// Longest body that is taken, in bytes, unless set otherwise: an attachment of 50 MB in base64, and its resource.
pub const BODY_LIMIT: usize = 70 * 1024 * 1024;
/// How long a body may take to arrive; a client that stalls must not hold a connection.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How long the server behind may take.
const ANSWER_TIME: Duration = Duration::from_secs(60);
const IF_NONE_EXIST: HeaderName = HeaderName::from_static("if-none-exist");

/// The REST interface of one server.
#[derive(Debug)]
pub struct Rest {
    server: Arc<dyn FhirServer>,
    base: String,
    /// The path of the base: `/fhir`, or nothing.
    prefix: String,
    access: Access,
    audits: bool,
    body_limit: usize,
    started: DateTime,
    numbers: Numbers,
}

// === impl Rest ===

impl Rest {
    /// The interface of `server`; `base` is the address under which clients reach it, without a slash at its end.
    pub fn new(server: Arc<dyn FhirServer>, base: &str, access: Access, body_limit: usize) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        let authority = base.split_once("://").map_or(base.as_str(), |(_, rest)| rest);
        let prefix = authority.find('/').map_or("", |at| &authority[at..]).to_owned();
        let (started, numbers) = (DateTime::now(), Numbers::default());
        Self { server, base, prefix, access, audits: true, body_limit, started, numbers }
    }

    /// The same, writing down what clients with tokens read and write, or not. Unless told otherwise it does.
    #[must_use]
    pub fn auditing(self, audits: bool) -> Self {
        Self { audits, ..self }
    }

    /// The same, counting with these numbers.
    #[must_use]
    pub fn counting(self, numbers: Numbers) -> Self {
        Self { numbers, ..self }
    }

    /// The routes, at the path that `base` has: for `http://127.0.0.1:1234/fhir` all from `/fhir` on.
    pub fn router(self) -> Router {
        let prefix = self.prefix.clone();
        let router = match prefix.as_str() {
            "" => Router::new().route("/", any(answer)),
            prefix => Router::new().route(prefix, any(answer)).route(&format!("{prefix}/"), any(answer)),
        };
        router.route(&format!("{prefix}/{{*path}}"), any(answer)).with_state(Arc::new(self))
    }

    /// What stands behind the base in a path.
    fn below_base<'a>(&self, path: &'a str) -> &'a str {
        path.strip_prefix(&self.prefix).unwrap_or(path)
    }

    async fn handle(&self, request: Request) -> Result<Reply, Refusal> {
        let (parts, body) = request.into_parts();
        let path = self.below_base(parts.uri.path());
        let interaction = route::of(&parts.method, path)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default())
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, IssueType::Invalid, "the query cannot be decoded"))?;
        if !negotiate::takes_json(&parts.headers, query.get("_format")) {
            let text = "only application/fhir+json is spoken here";
            return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, IssueType::NotSupported, text));
        }
        let query = query.without("_format").without("_pretty");
        let part = Part::of(&query)?;
        let client = match interaction {
            // What the server can do is no secret, and clients need it to learn how to log in.
            Interaction::Capabilities => {
                let secured = self.access.is_secured();
                return Ok(Reply::of(capability::statement(&self.base, secured, &self.started)));
            }
            Interaction::OpenApi => return Ok(Reply::of_json(StatusCode::OK)),
            _ => self.client(&parts)?,
        };
        let scopes = client.map_or_else(Scopes::all, |client| client.scopes().clone());
        let answer = self.carry_out(interaction, query, &scopes, &parts.headers, body);
        let answer = tokio::time::timeout(ANSWER_TIME + BODY_TIME, answer).await.unwrap_or_else(|_| {
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, IssueType::Timeout, "the server took too long"))
        });
        let mut reply = answer?;
        if let Some(client) = client.filter(|_| self.audits) {
            self.write_down(client, route::names(&parts.method, path).0, &reply).await?;
        }
        if let Some(resource) = &mut reply.content {
            reply.part.take().into_iter().chain([part]).for_each(|part| part.take(resource));
        }
        Ok(reply)
    }

    /// Writes down what a client has seen or written. What cannot be written down is not shown; what was written stays
    /// so, and the client must not write it once more.
    async fn write_down(&self, client: &Client, interaction: &str, reply: &Reply) -> Result<(), Refusal> {
        let Some(record) = audit::record(&client.name, interaction, reply, &self.base) else { return Ok(()) };
        match self.server.create(record.event, None).await {
            Ok(_) => Ok(()),
            Err(error) if record.of_write => {
                tracing::error!(client = client.name, interaction, %error, "a write is not in the AuditEvents");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Who asks; `None` where everybody on this machine may.
    fn client(&self, parts: &Parts) -> Result<Option<&Client>, Refusal> {
        let host =
            negotiate::text(&parts.headers, &header::HOST).or_else(|| parts.uri.authority().map(|host| host.as_str()));
        if !self.access.is_secured() {
            // A page that a browser on this machine shows must not get here under another name (DNS rebinding).
            if host.is_some_and(|host| !is_loopback(host)) {
                let text = "this endpoint is open on this machine only; call it by 127.0.0.1 or localhost";
                return Err(Refusal::new(StatusCode::FORBIDDEN, IssueType::Forbidden, text));
            }
            return Ok(None);
        }
        let token = negotiate::text(&parts.headers, &header::AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let found = token.and_then(|token| self.access.client(token));
        let client = found.ok_or_else(|| {
            let challenge = if token.is_some() {
                "Bearer realm=\"fhir\", error=\"invalid_token\""
            } else {
                "Bearer realm=\"fhir\""
            };
            let refusal = Refusal::new(StatusCode::UNAUTHORIZED, IssueType::Login, "a bearer token is required");
            refusal.with(header::WWW_AUTHENTICATE, challenge)
        })?;
        tracing::debug!(client = client.name, method = %parts.method, "FHIR request");
        Ok(Some(client))
    }

    async fn carry_out(
        &self,
        interaction: Interaction,
        query: Query,
        scopes: &Scopes,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Reply, Refusal> {
        match interaction {
            Interaction::Capabilities | Interaction::OpenApi => Ok(Reply::of_json(StatusCode::OK)),
            Interaction::Bundle => {
                let bundle = self.resource(headers, body).await?;
                bundle::carry_out(&*self.server, bundle, scopes, Return::of(headers)).await
            }
            Interaction::Search(kind) => self.search(kind, query, scopes, headers).await,
            Interaction::SearchByForm(kind) => {
                let bytes = self.bytes(headers, body).await?;
                // All may stand in the address; then there is nothing to say what it is.
                let is_bare = bytes.is_empty() && !headers.contains_key(header::CONTENT_TYPE);
                if !is_bare && !negotiate::brings_form(headers) {
                    return Err(unsupported_media("application/x-www-form-urlencoded is required"));
                }
                let form = std::str::from_utf8(&bytes).ok().and_then(|text| Query::parse(text).ok());
                let form = form.ok_or_else(|| bad("the form cannot be decoded"))?;
                let form = form.without("_format").without("_pretty");
                let part = Part::of(&form)?;
                let reply = self.search(kind, query.and(form), scopes, headers).await?;
                Ok(Reply { part: Some(part), ..reply })
            }
            Interaction::Create(kind) => self.create(kind, scopes, headers, body).await,
            Interaction::Update(kind, id) => self.update(kind, &id, scopes, headers, body).await,
            Interaction::UpdateWhere(kind) => {
                need(scopes, Right::Update, Some(kind))?;
                need_to_find(scopes, kind, &query)?;
                let resource = self.resource_of(kind, scopes, headers, body).await?;
                let only = only(headers)?;
                let written = self.server.update_where(resource, &query, only.as_condition()).await?;
                Ok(self.written(written, headers))
            }
            Interaction::Read(kind, id) => {
                need(scopes, Right::Read, Some(kind))?;
                Ok(conditional(self.server.read(kind, &id).await?, headers))
            }
            Interaction::VersionRead(kind, id, version) => {
                need(scopes, Right::Read, Some(kind))?;
                Ok(conditional(self.server.vread(kind, &id, &version).await?, headers))
            }
            Interaction::InstanceHistory(kind, id) => {
                need(scopes, Right::Read, Some(kind))?;
                self.history(HistoryOf::Instance(kind, &id), &format!("{kind}/{id}/_history"), &query).await
            }
            Interaction::TypeHistory(kind) => {
                need(scopes, Right::Search, Some(kind))?;
                self.history(HistoryOf::Type(kind), &format!("{kind}/_history"), &query).await
            }
            Interaction::SystemHistory => {
                need(scopes, Right::Search, None)?;
                self.history(HistoryOf::System, "_history", &query).await
            }
        }
    }

    async fn search(
        &self,
        kind: ResourceType,
        query: Query,
        scopes: &Scopes,
        headers: &HeaderMap,
    ) -> Result<Reply, Refusal> {
        let query = if negotiate::is_lenient(headers) { known_only(kind, &query) } else { query };
        need_to_find(scopes, kind, &query)?;
        let mut page = self.server.search(kind, &query).await?;
        page.entries.retain(|entry| entry.mode != Mode::Include || scopes.allow(Right::Read, entry.resource.kind()));
        let base = format!("{}/", self.base);
        Ok(Reply::of(Resource::of(&pages::searchset(&page, &base, kind, &query))))
    }

    async fn history(&self, of: HistoryOf<'_>, path: &str, query: &Query) -> Result<Reply, Refusal> {
        let is_known = |name: &str| matches!(name, "_since" | "_count" | "_cursor") || PARAMETERS.contains(&name);
        if let Some((name, _)) = query.parameters().find(|(name, _)| !is_known(name)) {
            let name: String = name.chars().take(64).collect();
            return Err(bad(&format!("the parameter {name} is not known for histories")));
        }
        // A `+` that was not percent-encoded has come as a space; no moment has one.
        let moment = |text: &str| DateTime::parse(&text.replace(' ', "+"));
        let since = query.get("_since").map(|text| moment(text).ok_or_else(|| bad("_since is not an instant")));
        let count = query.get("_count").map(|text| text.parse().map_err(|_| bad("_count is not a number")));
        let (since, count) = (since.transpose()?, count.transpose()?);
        let mut page = if query.get("_cursor").is_some() {
            self.server.follow(&PageLink(format!("{path}?{query}"))).await?
        } else {
            self.server.history(of, since.as_ref(), count).await?
        };
        if let Some(next) = &mut page.next {
            // The parts of resources are cut here, so the next page is told of it here.
            for (name, value) in query.parameters().filter(|(name, _)| PARAMETERS.contains(name)) {
                next.0.push_str(&format!("&{}", Query::new().with(name, value)));
            }
        }
        let own = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        Ok(Reply::of(Resource::of(&pages::history(&page, &format!("{}/", self.base), &own))))
    }

    async fn create(
        &self,
        kind: ResourceType,
        scopes: &Scopes,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Reply, Refusal> {
        need(scopes, Right::Create, Some(kind))?;
        let unless = match headers.get(IF_NONE_EXIST) {
            None => None,
            Some(value) => {
                let text = value.to_str().ok().map(query_of);
                let query = text.and_then(|text| Query::parse(text).ok());
                let query = query.ok_or_else(|| bad("If-None-Exist is not a query"))?;
                need_to_find(scopes, kind, &query)?;
                Some(query)
            }
        };
        let resource = self.resource_of(kind, scopes, headers, body).await?;
        Ok(self.written(self.server.create(resource, unless.as_ref()).await?, headers))
    }

    async fn update(
        &self,
        kind: ResourceType,
        id: &Id,
        scopes: &Scopes,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Reply, Refusal> {
        need(scopes, Right::Update, Some(kind))?;
        let resource = self.resource_of(kind, scopes, headers, body).await?;
        if resource.id().as_ref() != Some(id) {
            let issue = Issue::error(IssueType::Invalid, "the id must be the one in the address");
            let outcome = OperationOutcome::of(issue.at(format!("{kind}.id")));
            return Err(Refusal(Box::new(Reply::outcome(StatusCode::BAD_REQUEST, &outcome))));
        }
        let only = only(headers)?;
        Ok(self.written(self.server.update(resource, only.as_condition()).await?, headers))
    }

    /// The answer to a write.
    fn written(&self, written: Written, headers: &HeaderMap) -> Reply {
        let created = written.effect == Effect::Created;
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        let location = written.resource.versioned_key().map(|key| format!("{}/{key}", self.base));
        let mut reply = Reply::of(written.resource);
        reply.status = status;
        if let Some(location) = location {
            reply.set(header::LOCATION, &location);
        }
        match Return::of(headers) {
            Return::Representation => {}
            Return::Minimal => reply.content = None,
            Return::OperationOutcome => reply.content = Some(done(created)),
        }
        reply
    }

    /// The resource that is to be written.
    async fn resource_of(
        &self,
        kind: ResourceType,
        scopes: &Scopes,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Resource, Refusal> {
        let resource = self.resource(headers, body).await?;
        if resource.kind() != Some(kind) {
            return Err(bad(&format!("a {kind} is required at this address")));
        }
        need_criteria(scopes, &resource)?;
        Ok(resource)
    }

    async fn resource(&self, headers: &HeaderMap, body: Body) -> Result<Resource, Refusal> {
        if !negotiate::brings_json(headers) {
            return Err(unsupported_media("application/fhir+json in UTF-8 is required"));
        }
        let bytes = self.bytes(headers, body).await?;
        if std::str::from_utf8(&bytes).is_err() {
            return Err(bad("the body is not UTF-8"));
        }
        if !duplicates::none(&bytes) {
            return Err(bad("an object in the body holds the same name twice"));
        }
        Resource::from_json(&bytes).map_err(|error| match error {
            // Where, and never what: the text could be patient data.
            NotThisResource::NotAnObject(Some(error)) => {
                bad(&format!("the body is not JSON: line {}, column {}", error.line(), error.column()))
            }
            other => bad(&other.to_string()),
        })
    }

    async fn bytes(&self, headers: &HeaderMap, body: Body) -> Result<axum::body::Bytes, Refusal> {
        if negotiate::text(headers, &header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            let refusal = unsupported_media("a body is taken as it is, not compressed");
            return Err(refusal.with(header::ACCEPT_ENCODING, "identity"));
        }
        let read = tokio::time::timeout(BODY_TIME, to_bytes(body, self.body_limit)).await;
        let read = read.map_err(|_| {
            Refusal::new(StatusCode::REQUEST_TIMEOUT, IssueType::Timeout, "the body took too long to arrive")
        })?;
        read.map_err(|error| {
            let too_long = std::error::Error::source(&error).is_some_and(|source| source.is::<LengthLimitError>());
            if too_long {
                let text = format!("a body of at most {} bytes is taken", self.body_limit);
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, IssueType::TooLong, &text)
            } else {
                bad("the body did not arrive whole")
            }
        })
    }
}

/// Answers a request as a step of its trace.
async fn answer(State(rest): State<Arc<Rest>>, request: Request) -> Response {
    let began = Instant::now();
    let (interaction, kind) = route::names(request.method(), rest.below_base(request.uri().path()));
    let trace = Trace::of_request(request.headers());
    let span = tracing::info_span!("fhir", trace_id = trace.id(), span_id = trace.span(), method = %request.method());
    let numbers = rest.numbers.clone();
    let parent = HeaderValue::from_str(&trace.parent());
    let mut response = trace.scope(respond(rest, request).instrument(span)).await;
    numbers.answered(interaction, kind, response.status().as_u16(), began.elapsed());
    if let Ok(parent) = parent {
        // So that a client without traces of its own can say which request it asks about.
        response.headers_mut().insert(trace::TRACEPARENT, parent);
    }
    response
}

async fn respond(rest: Arc<Rest>, request: Request) -> Response {
    let is_openapi = rest.below_base(request.uri().path()) == "/openapi.json";
    let reply = rest.handle(request).await.unwrap_or_else(|Refusal(reply)| *reply);
    if is_openapi && reply.status == StatusCode::OK {
        let mut response = Response::new(Body::from(openapi::description(&rest.base).to_string()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return response;
    }
    tracing::debug!(status = reply.status.as_u16(), "answered");
    reply.into_response()
}

/// Whether a `Host` names this machine's loopback.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The condition of an update in its headers.
fn only(headers: &HeaderMap) -> Result<Only, Refusal> {
    let tags = |name| negotiate::tags(headers, &name);
    let only = Only::of(tags(header::IF_MATCH), tags(header::IF_NONE_MATCH));
    only.ok_or_else(|| bad("an update takes If-Match, or If-None-Match: *"))
}

/// What a write says that has no resource to say.
fn done(created: bool) -> Resource {
    let text = if created { "created" } else { "up to date" };
    let severity = Some(Severity::Information);
    let issue = Issue { severity, ..Issue::error(IssueType::Informational, text) };
    Resource::of(&OperationOutcome::of(issue))
}

/// The query in `If-None-Exist`, which some write with the type or the whole address in front.
fn query_of(text: &str) -> &str {
    match text.split_once('?') {
        Some((before, query)) if !before.contains('=') => query,
        _ => text,
    }
}

/// The query without the parameters that are not known, for a client that prefers that to an error
/// (`Prefer: handling=lenient`; R4, 3.1.1.3). A modifier that is not known is an error all the same.
fn known_only(kind: ResourceType, query: &Query) -> Query {
    let known = query.parameters().filter(|(name, _)| repository::is_parameter(kind, name));
    known.fold(Query::new(), |query, (name, value)| query.with(name, value))
}

#[cfg(test)]
mod tests;
