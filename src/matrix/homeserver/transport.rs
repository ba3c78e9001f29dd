//! HTTP to the homeserver: bounded, timed, repeated with growing pauses.

use std::{
    error::Error as _,
    fmt::Write as _,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{Error, Refused, Settings};
use crate::service::{
    failure::{Failure, Status},
    files,
    secrets::Secret,
};

/// Largest answer that is read into memory, in bytes: the state of a very large room.
const ANSWER_LIMIT: usize = 64 << 20;
/// Largest file of certificates, in bytes.
const CERTIFICATES_LIMIT: u64 = 4 << 20;
/// The first pause before a repetition; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between repetitions, unless the homeserver asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// When a call may be made again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Whenever it may succeed then: it has the same effect twice as once.
    Always,
    /// Only when the homeserver certainly did not act on it: it was not connected, or said 429.
    IfNotDone,
    /// Never: the caller wants to know how it is now.
    Never,
}

/// A connection pool to one homeserver.
pub(in crate::matrix) struct Transport {
    client: reqwest::Client,
    base: String,
    as_token: Secret,
    patience: Duration,
}

// === impl Transport ===

impl Transport {
    pub(super) fn new(settings: &Settings, as_token: Secret) -> Result<Self, Failure> {
        let base = settings.url.trim_end_matches('/').to_owned();
        let scheme = base.parse::<http::Uri>().ok().and_then(|uri| uri.scheme_str().map(str::to_owned));
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            return Err(Failure::new(Status::Config, format!("homeserver.url: {base:?} is not a URL"))
                .remedy("Give the base URL of its client API, such as http://127.0.0.1:8038."));
        }
        tls_provider();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("fhir-bridge/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.connecting())
            .read_timeout(settings.answering())
            .pool_idle_timeout(Duration::from_secs(20))
            // Tokens go to this homeserver only: no detours by redirects or by proxies from the environment.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(path) = &settings.ca_file {
            let pem = files::read_text(path, CERTIFICATES_LIMIT)?;
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| {
                Failure::new(Status::Config, format!("{} holds no certificates (PEM)", path.display())).because(error)
            })?;
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(|error| {
            Failure::new(Status::Config, "cannot prepare connections to the homeserver").because(error)
        })?;
        Ok(Self { client, base, as_token, patience: settings.patience() })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// A request for a path, authorised, that the caller makes itself: for streams.
    pub(in crate::matrix) fn request(&self, method: http::Method, path_and_query: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path_and_query}", self.base);
        self.client.request(method, url).bearer_auth(self.as_token.expose())
    }

    /// Makes a call until it succeeds, is refused for good, or patience ends. The answer is a success (2xx).
    pub(in crate::matrix) async fn exchange(
        &self,
        request: http::Request<Bytes>,
        repeat: Repeat,
    ) -> Result<http::Response<Bytes>, Error> {
        let deadline = Instant::now() + self.patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.attempt(request.clone()).await {
                Ok(response) => return Ok(response),
                Err(failed) if failed.may_repeat(repeat) => failed.error,
                Err(failed) => return Err(failed.error),
            };
            let wait = error.retry_after().unwrap_or_else(|| jitter(pause)).max(Duration::from_millis(1));
            if Instant::now() + wait > deadline {
                return Err(error);
            }
            tracing::debug!(path = request.uri().path(), %error, ?wait, "trying again");
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, Failed> {
        let path = request.uri().path().to_owned();
        let request = reqwest::Request::try_from(request)
            .map_err(|error| Failed::for_good(Error::Request(error.without_url().to_string())))?;
        let response = self.client.execute(request).await.map_err(|error| self.broken(error))?;
        let response = self.collect(response, &path).await?;
        check(response, &path).map_err(Failed::answered)
    }

    /// Reads an answer into memory.
    async fn collect(&self, mut response: reqwest::Response, path: &str) -> Result<http::Response<Bytes>, Failed> {
        let mut collected = http::Response::builder().status(response.status());
        if let Some(headers) = collected.headers_mut() {
            headers.extend(response.headers().clone());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(error))? {
            if body.len() + chunk.len() > ANSWER_LIMIT {
                return Err(Failed::for_good(Error::TooLarge { what: "the answer", limit: ANSWER_LIMIT as u64 }));
            }
            body.extend_from_slice(&chunk);
        }
        collected
            .body(body.freeze())
            .map_err(|error| Failed::for_good(Error::Answer { path: path.to_owned(), reason: error.to_string() }))
    }

    /// Makes a call with a body that streams, once; the answer's body is not read yet.
    pub(in crate::matrix) async fn open(
        &self,
        request: reqwest::RequestBuilder,
        path: &str,
    ) -> Result<reqwest::Response, Error> {
        let response = request.send().await.map_err(|error| self.broken(error).error)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let response = self.collect(response, path).await.map_err(|failed| failed.error)?;
        Err(Refused::read(path, &response).into())
    }

    /// What a failure below HTTP means.
    fn broken(&self, error: reqwest::Error) -> Failed {
        let unsent = error.is_connect();
        let url = self.base.clone();
        let error = if error.is_timeout() && !unsent {
            Error::TimedOut { url }
        } else {
            Error::Unreachable { url, reason: causes(&error.without_url()) }
        };
        Failed { error, undone: unsent }
    }
}

fn check(response: http::Response<Bytes>, path: &str) -> Result<http::Response<Bytes>, Error> {
    let status = response.status();
    if status.is_success() {
        Ok(response)
    } else if status.is_redirection() {
        let reason = "it redirects elsewhere; give the URL of the homeserver itself".to_owned();
        Err(Error::Answer { path: path.to_owned(), reason })
    } else {
        Err(Refused::read(path, &response).into())
    }
}

/// A failed attempt, and whether the homeserver certainly did nothing.
struct Failed {
    error: Error,
    undone: bool,
}

// === impl Failed ===

impl Failed {
    fn for_good(error: Error) -> Self {
        Self { error, undone: false }
    }

    fn answered(error: Error) -> Self {
        let undone = error.refused().is_some_and(|refused| refused.status == StatusCode::TOO_MANY_REQUESTS);
        Self { error, undone }
    }

    fn may_repeat(&self, repeat: Repeat) -> bool {
        match repeat {
            Repeat::Always => self.error.is_temporary(),
            Repeat::IfNotDone => self.undone,
            Repeat::Never => false,
        }
    }
}

/// All causes of an error in one line.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(next) = cause {
        let separator = if text.is_empty() { "" } else { ": " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{next}");
        cause = next.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

/// Between half of a pause and all of it, so that many callers do not come back together.
fn jitter(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness the whole pause is as good.
    if SystemRandom::new().fill(&mut byte).is_err() {
        return pause;
    }
    pause / 2 + (pause / 2).mul_f32(f32::from(byte[0]) / 255.0)
}

/// Chooses ring for the whole process; a choice that was made before stands.
fn tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The content type of an answer, as it was declared.
pub(in crate::matrix) fn content_type(response: &reqwest::Response) -> Option<&str> {
    response.headers().get(header::CONTENT_TYPE)?.to_str().ok()
}
