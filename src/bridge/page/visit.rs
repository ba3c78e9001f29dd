//! One request and its answer: whom it is for, in which language, and that no other site stands behind it.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Redirect, Response},
};
use maud::{Markup, html};
use tracing::warn;

use super::{Desk, layout, viewers::Viewer};
use crate::{
    bridge::{
        engine::Trouble,
        store::StoreError,
        words::{Language, Word},
    },
    fhir::{query::Query, server::FhirError},
};

/// Nothing but the page's own style, script and stream; nobody may frame it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A request that may be answered.
pub(super) struct Visit {
    pub(super) desk: Arc<Desk>,
    pub(super) viewer: Viewer,
    pub(super) language: Language,
    /// What stands behind the question mark.
    pub(super) query: Query,
    path: String,
    /// Whether the request came from a page of the bridge, as far as its headers tell.
    same_site: bool,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum Mishap {
    /// There is no such thing.
    #[error("not found")]
    NotFound,
    /// A link of another time.
    #[error("expired")]
    Expired,
    /// A side or the store does not answer.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// A form that came from a page of the bridge.
pub(super) struct Form(Query);

impl From<StoreError> for Mishap {
    fn from(error: StoreError) -> Self {
        Self::Trouble(error.into())
    }
}

impl From<FhirError> for Mishap {
    fn from(error: FhirError) -> Self {
        Self::Trouble(error.into())
    }
}

impl FromRequestParts<Arc<Desk>> for Visit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, desk: &Arc<Desk>) -> Result<Self, Response> {
        let host = parts.uri.authority().map(|authority| authority.as_str().to_owned());
        let host = host.or_else(|| text(&parts.headers, header::HOST).map(str::to_owned)).unwrap_or_default();
        let accepted = text(&parts.headers, header::ACCEPT_LANGUAGE).unwrap_or_default();
        let mut visit = Self {
            desk: Arc::clone(desk),
            viewer: Viewer::default(),
            language: Language::of_accept(accepted),
            query: Query::parse(parts.uri.query().unwrap_or_default()).unwrap_or_default(),
            path: parts.uri.path().to_owned(),
            same_site: is_same_site(&parts.headers, &host),
        };
        // A name of somebody else's that leads here would let their scripts read the page.
        if !is_own(&host, &desk.hosts) {
            return Err(visit.refuse(StatusCode::MISDIRECTED_REQUEST, Word::OtherHost));
        }
        match desk.viewers.who(&parts.headers) {
            Some(viewer) => visit.viewer = viewer,
            None if parts.headers.contains_key(header::AUTHORIZATION) => {
                let refusal = visit.refuse(StatusCode::UNAUTHORIZED, Word::WrongToken);
                return Err(([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response());
            }
            None if visit.path == "/sign-in" => {}
            None if parts.method == Method::GET && visit.path != "/live" => {
                return Err(Redirect::to("/sign-in").into_response());
            }
            None => return Err(visit.refuse(StatusCode::UNAUTHORIZED, Word::SignIn)),
        }
        Ok(visit)
    }
}

// === impl Visit ===

impl Visit {
    /// A page with its headers.
    pub(super) fn page(&self, status: StatusCode, title: Word, content: Markup) -> Response {
        let page = layout::page(self, self.language.say(title), &self.path, &content);
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::CONTENT_LANGUAGE, self.language.tag()),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "same-origin"),
            (header::VARY, "accept-language, cookie, authorization"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (status, headers, page.into_string()).into_response()
    }

    /// A page, or why there is none.
    pub(super) fn answer(&self, title: Word, content: Result<Markup, Mishap>) -> Response {
        let (status, sentence) = match content {
            Ok(content) => return self.page(StatusCode::OK, title, content),
            Err(Mishap::NotFound) => (StatusCode::NOT_FOUND, self.language.say(Word::NotFound).to_owned()),
            Err(Mishap::Expired) => (StatusCode::GONE, self.language.say(Word::Expired).to_owned()),
            Err(Mishap::Trouble(trouble)) => {
                warn!(%trouble, path = self.path, "a web page cannot be made");
                (StatusCode::SERVICE_UNAVAILABLE, self.language.say_with(Word::Unreadable, trouble))
            }
        };
        let path = self.path.as_str();
        let content = html! {
            h1 { (self.language.say(title)) }
            p.problem role="alert" { (sentence) }
            @if status == StatusCode::GONE { p { a href=(path) { (self.language.say(Word::Newest)) } } }
        };
        self.page(status, title, content)
    }

    /// A form that did not come from a page of the bridge is not looked at.
    pub(super) fn refuse_foreign(&self) -> Response {
        self.refuse(StatusCode::FORBIDDEN, Word::OtherSite)
    }

    /// A refusal in words.
    pub(super) fn refuse(&self, status: StatusCode, why: Word) -> Response {
        let sentence = self.language.say_with(Word::NotAllowed, self.language.say(why));
        self.page(status, Word::Overview, html! { p.problem role="alert" { (sentence) } })
    }

    /// The hidden field that proves that a form came from here.
    pub(super) fn mark(&self) -> Markup {
        html! { input type="hidden" name="mark" value=(self.desk.seal.mark(&self.viewer.session)); }
    }

    /// A place in a list that the link `?from=` brings back; `None` at its beginning.
    pub(super) fn place<T: serde::de::DeserializeOwned>(&self) -> Result<Option<T>, Mishap> {
        match self.query.get("from") {
            None => Ok(None),
            Some(sealed) => self.desk.seal.open(sealed).map(Some).ok_or(Mishap::Expired),
        }
    }

    /// Links to the rest of a list, and back to its beginning.
    pub(super) fn turn<T: serde::Serialize>(&self, next: Option<T>) -> Markup {
        let next = next.map(|next| format!("{}?from={}", self.path, self.desk.seal.close(&next)));
        let is_first = self.query.get("from").is_none();
        html! {
            @if next.is_some() || !is_first {
                nav.turn aria-label=(self.language.say(Word::Navigation)) {
                    @if !is_first { a href=(self.path) { (self.language.say(Word::Newest)) } }
                    @if let Some(next) = next { a rel="next" href=(next) { (self.language.say(Word::Older)) } }
                }
            }
        }
    }
}

// === impl Form ===

impl Form {
    /// Reads a form; `None` for one that another site made a browser send.
    pub(super) fn read(visit: &Visit, body: &[u8]) -> Option<Self> {
        let form = Query::parse(std::str::from_utf8(body).ok()?).ok()?;
        let is_ours = || visit.desk.seal.is_mark(&visit.viewer.session, form.get("mark").unwrap_or_default());
        (visit.same_site && (visit.viewer.by_header || is_ours())).then_some(Self(form))
    }

    /// A field.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a request came from a page of the same origin (Fetch metadata, and `Origin`); programs send neither.
fn is_same_site(headers: &HeaderMap, host: &str) -> bool {
    let from_here = headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin");
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let own = |origin: &str| origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host));
    from_here && origin.is_none_or(own)
}

/// Whether a host is one under which the bridge is known: an address, `localhost`, or a name of the settings.
fn is_own(host: &str, names: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok() || names.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_lead_here() {
        let names = ["bridge.example".to_owned()];
        for own in ["127.0.0.1:1235", "[::1]:1235", "localhost:1", "x.localhost", "Bridge.Example:80", "10.0.0.1"] {
            assert!(is_own(own, &names), "{own}");
        }
        for foreign in ["evil.example:1235", "", "localhost.evil.example", "127.0.0.1.evil.example", "[bridge"] {
            assert!(!is_own(foreign, &names), "{foreign}");
        }
    }

    #[test]
    fn another_site_is_known_by_its_headers() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            is_same_site(&headers, "127.0.0.1:1235")
        };
        assert!(of(&[]));
        assert!(of(&[("origin", "http://127.0.0.1:1235"), ("sec-fetch-site", "same-origin")]));
        assert!(!of(&[("origin", "http://127.0.0.1:8000")]));
        assert!(!of(&[("origin", "null")]));
        assert!(!of(&[("sec-fetch-site", "same-site")]) && !of(&[("sec-fetch-site", "cross-site")]));
    }
}
