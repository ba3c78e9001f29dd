//! What EST answers: the operations of RFC 7030 section 3.2.2 that this authority has.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt as _;
use tower_http::timeout::TimeoutLayer;
use tracing::{error, info, warn};

use crate::{
    pki::{Authority, Certificate, EnrolError, REQUEST_LIMIT, RequestError, Serial},
    service::failure::Failure,
};

use super::{CERTIFICATES, REQUEST, ROOT, message, server::Metrics, throttle::Throttle};

/// How long a request may take, its body included.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read before the connection is closed, in bytes.
const PATIENCE: usize = 16 * 1024 * 1024;
/// RFC 7030 has this header although HTTP has no such thing; RFC 8951 keeps it for old clients.
const TRANSFER_ENCODING: HeaderName = HeaderName::from_static("content-transfer-encoding");

/// Who is on the other side of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Its address; that of this machine for a Unix socket.
    pub(super) address: IpAddr,
    /// The certificate whose key it has shown to hold. It chains to the CA and was within its life at the handshake.
    pub(super) certificate: Option<Arc<Certificate>>,
}

/// What the operations work with.
#[derive(Debug)]
pub(super) struct Desk {
    directory: PathBuf,
    throttle: Throttle,
    pub(super) metrics: Metrics,
}

/// An answer that is not the one hoped for. The sentence is for the person who runs the client.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    sentence: String,
    retry_after: Option<Duration>,
}

// === impl Desk ===

impl Desk {
    pub(super) fn new(directory: &Path, metrics: Metrics) -> Self {
        Self { directory: directory.to_owned(), throttle: Throttle::new(Instant::now()), metrics }
    }

    /// Runs an operation on the authority, where it may block.
    async fn with_authority<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Authority) -> Result<T, EnrolError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let directory = self.directory.clone();
        // Opened anew each time: another process may have extended the authority or revoked something.
        let task = tokio::task::spawn_blocking(move || work(&Authority::open(&directory)?));
        match task.await {
            Ok(outcome) => outcome.map_err(Refusal::from),
            Err(panicked) => Err(Refusal::internal(&panicked)),
        }
    }

    /// Lets an address try that has not failed too often, and counts the failures.
    async fn attempt<T: Send + 'static>(
        &self,
        peer: &Peer,
        operation: &'static str,
        work: impl FnOnce(&Authority) -> Result<T, EnrolError> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.admit(peer)?;
        let outcome = self.with_authority(work).await;
        if let Err(refusal) = &outcome {
            self.refuse(peer, operation, refusal);
        } else {
            self.metrics.count(operation, "issued");
        }
        outcome
    }

    fn admit(&self, peer: &Peer) -> Result<(), Refusal> {
        self.throttle.check(peer.address, Instant::now()).map_err(|wait| Refusal {
            status: StatusCode::TOO_MANY_REQUESTS,
            sentence: "too many failed attempts: wait a minute".to_owned(),
            retry_after: Some(wait),
        })
    }

    fn refuse(&self, peer: &Peer, operation: &'static str, refusal: &Refusal) {
        self.metrics.count(operation, "refused");
        if refusal.status.is_client_error() {
            self.throttle.failed(peer.address, Instant::now());
            warn!(operation, address = %peer.address, status = refusal.status.as_u16(), reason = refusal.sentence, "refused an enrolment");
        }
    }
}

/// The routes of EST.
pub(super) fn router(desk: Arc<Desk>) -> Router {
    let operations = Router::new()
        .route("/cacerts", get(ca_certificates))
        .route("/csrattrs", get(attributes))
        .route("/simpleenroll", post(enrol))
        .route("/simplereenroll", post(re_enrol));
    Router::new()
        .nest(ROOT, operations)
        .fallback(async || (StatusCode::NOT_FOUND, "there is no such operation here\n"))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIME))
        .with_state(desk)
}

/// `cacerts`: the roots to trust (RFC 7030 section 4.1).
async fn ca_certificates(State(desk): State<Arc<Desk>>) -> Result<Response, Refusal> {
    let certificate = desk.with_authority(|authority| Ok(authority.certificate().clone())).await?;
    answer_with(&certificate)
}

/// `csrattrs`: what a request should be made of (RFC 7030 section 4.5).
async fn attributes() -> Response {
    let headers = [(header::CONTENT_TYPE, "application/csrattrs"), (TRANSFER_ENCODING, "base64")];
    (headers, message::lines(&message::ATTRIBUTES)).into_response()
}

/// `simpleenroll`: a certificate for who has a one-time token (RFC 7030 section 4.2.1).
async fn enrol(
    State(desk): State<Arc<Desk>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    const OPERATION: &str = "simpleenroll";
    let body = read(body).await?;
    expect_request(&headers)?;
    // Not counted as a failure: clients ask without credentials first, and learn from the answer what is wanted.
    let token = token(&headers).ok_or_else(|| Refusal {
        status: StatusCode::UNAUTHORIZED,
        sentence: "send the one-time token, as the password of HTTP Basic or as a Bearer".to_owned(),
        retry_after: None,
    })?;
    let certificate = desk.attempt(&peer, OPERATION, move |authority| authority.enrol(&token, &body)).await?;
    tell(OPERATION, &peer, certificate.serial());
    answer_with(&certificate)
}

/// `simplereenroll`: the next certificate for who shows the present one (RFC 7030 section 4.2.2).
async fn re_enrol(
    State(desk): State<Arc<Desk>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    const OPERATION: &str = "simplereenroll";
    let body = read(body).await?;
    expect_request(&headers)?;
    let present = peer.certificate.clone();
    let work = move |authority: &Authority| match present {
        Some(present) => authority.re_enrol(&present, &body),
        None => Err(EnrolError::Certificate("show the present certificate in the TLS handshake")),
    };
    let certificate = desk.attempt(&peer, OPERATION, work).await?;
    tell(OPERATION, &peer, certificate.serial());
    answer_with(&certificate)
}

/// The body of a request, of at most [`REQUEST_LIMIT`] bytes.
///
/// What a client sends beyond is read too, up to [`PATIENCE`]: who closes a connection on a client that is still sending
/// takes the answer away from it (RFC 9112 section 9.6).
async fn read(body: Body) -> Result<Vec<u8>, Refusal> {
    let (mut body, mut kept, mut length) = (body.into_data_stream(), Vec::new(), 0);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| Refusal {
            status: StatusCode::BAD_REQUEST,
            sentence: format!("the body ended early: {error}"),
            retry_after: None,
        })?;
        length += piece.len();
        if length <= REQUEST_LIMIT {
            kept.extend_from_slice(&piece);
        } else if length > PATIENCE {
            break;
        }
    }
    if length > REQUEST_LIMIT { Err(EnrolError::from(RequestError::TooLarge).into()) } else { Ok(kept) }
}

fn tell(operation: &str, peer: &Peer, serial: &Serial) {
    info!(operation, address = %peer.address, %serial, "enrolled a host");
}

fn answer_with(certificate: &Certificate) -> Result<Response, Refusal> {
    let body = message::certs_only(certificate.der()).map_err(|error| Refusal::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, CERTIFICATES), (TRANSFER_ENCODING, "base64")], body).into_response())
}

fn expect_request(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(REQUEST) {
        return Ok(());
    }
    Err(Refusal {
        status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
        sentence: format!("send the request with Content-Type: {REQUEST}"),
        retry_after: None,
    })
}

/// The token of a request: the password of HTTP Basic (RFC 7617), whatever the user's name, or a Bearer (RFC 6750).
fn token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

// === impl Refusal ===

impl Refusal {
    fn internal(error: &dyn std::error::Error) -> Self {
        error!(%error, "an enrolment failed here");
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            sentence: "the authority cannot issue certificates now: its log says why".to_owned(),
            retry_after: None,
        }
    }

    fn authority(failure: Failure) -> Self {
        let text = crate::service::failure::explain("authority", &failure.into());
        Self::internal(&std::io::Error::other(text))
    }
}

impl From<EnrolError> for Refusal {
    fn from(error: EnrolError) -> Self {
        let status = match error {
            EnrolError::Token => StatusCode::UNAUTHORIZED,
            EnrolError::Request(RequestError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            EnrolError::Request(_) => StatusCode::BAD_REQUEST,
            EnrolError::Names(_) | EnrolError::Certificate(_) => StatusCode::FORBIDDEN,
            EnrolError::TooMany => StatusCode::TOO_MANY_REQUESTS,
            EnrolError::Authority(failure) => return Self::authority(failure),
        };
        let retry_after = (status == StatusCode::TOO_MANY_REQUESTS).then_some(Duration::from_secs(3600));
        Self { status, sentence: error.to_string(), retry_after }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.sentence)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Basic realm=\"enrolment\""));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from(wait.as_secs()));
        }
        response
    }
}

/// The address that stands for callers on a Unix socket.
pub(super) const THIS_MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
