//! A FHIR R4 endpoint as a care system speaks it: plain JSON over HTTP, independent of the bridge's types, so that the
//! scenario checks the bridge and not our own reading of it.

use std::time::Duration;

use reqwest::{Certificate, Method, Url};
use serde_json::Value;

use super::{recorder::Trouble, target::BridgeTarget};
use crate::service::{
    failure::{Failure, Status},
    secrets::Secret,
};

/// What a report calls this side; also the name of the bridge's log.
pub(super) const FHIR: &str = "FHIR";
/// Time for one request.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// The media type of FHIR in JSON (R4, "JSON Representation of Resources").
const MEDIA_TYPE: &str = "application/fhir+json";

/// A FHIR endpoint, reached as its clients reach it.
#[derive(Debug)]
pub(super) struct Fhir {
    base: Url,
    token: Option<Secret>,
    http: reqwest::Client,
}

// === impl Fhir ===

impl Fhir {
    /// The endpoint that a target names.
    ///
    /// # Errors
    /// When the address is none, or the file of the token cannot be read.
    pub(super) fn new(target: &BridgeTarget, roots: &[Certificate]) -> anyhow::Result<Self> {
        let wrong = || Failure::new(Status::Config, format!("bridge.fhir: {:?} is not an address", target.fhir));
        let base = Url::parse(&target.fhir).ok().filter(|base| base.has_host()).ok_or_else(wrong)?;
        let token = target.token_file.as_deref().map(Secret::read).transpose()?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(REQUEST_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only(roots.iter().cloned())
            .build()?;
        Ok(Self { base, token, http })
    }

    /// Reads what is at a path below the base, `["Communication", "1"]`.
    pub(super) async fn get(&self, path: &[&str]) -> Result<Value, Trouble> {
        self.ask(Method::GET, path, &[], None).await
    }

    /// Writes a resource under its own id, and returns it as the server keeps it.
    pub(super) async fn put(&self, resource: &Value) -> Result<Value, Trouble> {
        let text = |member: &str| resource[member].as_str().unwrap_or_default();
        self.ask(Method::PUT, &[text("resourceType"), text("id")], &[], Some(resource)).await
    }

    /// The resources of a type that a search finds, as far as its first page goes.
    pub(super) async fn search(&self, kind: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, Trouble> {
        let mut bundle = self.ask(Method::GET, &[kind], query, None).await?;
        let entries = bundle["entry"].as_array_mut().map(std::mem::take).unwrap_or_default();
        Ok(entries.into_iter().map(|mut entry| entry["resource"].take()).collect())
    }

    async fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, Trouble> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let asked = format!("{method} {}", url.path());
        let mut request = self.http.request(method, url).query(query).header("accept", MEDIA_TYPE);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.header("content-type", MEDIA_TYPE).body(body.to_string());
        }
        let at = |trouble: Trouble| trouble.context(&asked).at(FHIR);
        let response = request.send().await.map_err(|error| at(error.without_url().into()))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| at(error.without_url().into()))?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() && answer.is_object() {
            return Ok(answer);
        }
        let reason = answer["issue"][0]["diagnostics"].as_str().unwrap_or("no reason was given");
        Err(at(Trouble::new(format!("{status}: {reason}"))))
    }
}

/// The literal reference to a resource, `Communication/1`.
pub(super) fn reference(resource: &Value) -> String {
    let text = |member: &str| resource[member].as_str().unwrap_or_default();
    format!("{}/{}", text("resourceType"), text("id"))
}
