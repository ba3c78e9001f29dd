//! What a request carries to be let in: a token from a file, or one that the server gives for a signed statement.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA384, RsaKeyPair},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::settings::Smart;
use crate::{
    fhir::{instant::now_micros, server::FhirError},
    service::{
        failure::{Failure, Status},
        secrets::Secret,
    },
};

/// How long a signed statement is good; servers take at most five minutes.
const STATEMENT_SECONDS: i64 = 240;
/// A token is renewed so long before it ends, or at two thirds of a short life.
const MARGIN: Duration = Duration::from_secs(60);
/// How long a token is taken to live where the server does not say.
const USUAL_LIFE: u64 = 300;

/// How to be let in.
pub(super) enum Login {
    /// Not at all.
    None,
    /// By the token in a file.
    File(PathBuf),
    /// By SMART backend services.
    Smart(Box<Backend>),
}

/// A SMART backend-services client.
pub(super) struct Backend {
    settings: Smart,
    key: Key,
    base: String,
    token: Mutex<Option<Held>>,
}

struct Held {
    token: Secret,
    until: Instant,
}

enum Key {
    Es384(EcdsaKeyPair),
    Rs384(RsaKeyPair),
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Secret,
    #[serde(default)]
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct SmartConfiguration {
    token_endpoint: String,
}

// === impl Login ===

impl Login {
    /// The token to send, if any.
    pub(super) async fn token(&self, http: &reqwest::Client) -> Result<Option<Secret>, FhirError> {
        match self {
            Self::None => Ok(None),
            Self::File(path) => Secret::read(path)
                .map(Some)
                .map_err(|failure| FhirError::Unavailable(format!("the token cannot be read: {failure}"))),
            Self::Smart(backend) => backend.token(http).await.map(Some),
        }
    }

    /// Forgets a token that the server refused; true when another may be had.
    pub(super) async fn refused(&self) -> bool {
        match self {
            Self::Smart(backend) => backend.token.lock().await.take().is_some(),
            Self::None | Self::File(_) => false,
        }
    }
}

// === impl Backend ===

impl Backend {
    /// Reads the key.
    pub(super) fn new(settings: Smart, base: &str) -> Result<Self, Failure> {
        let pem = Secret::read(&settings.key_file)?;
        let key = Key::read(&pem).ok_or_else(|| {
            Failure::new(
                Status::Config,
                format!("{} is no private key for ES384 or RS384", settings.key_file.display()),
            )
            .remedy("Make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384`.")
        })?;
        Ok(Self { settings, key, base: base.to_owned(), token: Mutex::new(None) })
    }

    /// The token that is held, or a new one. Only one request asks for a new one; the others wait for it.
    async fn token(&self, http: &reqwest::Client) -> Result<Secret, FhirError> {
        let mut held = self.token.lock().await;
        if let Some(found) = held.as_ref().filter(|found| Instant::now() < found.until) {
            return Ok(found.token.clone());
        }
        let answer = self.ask(http).await?;
        let life = Duration::from_secs(answer.expires_in.unwrap_or(USUAL_LIFE));
        let until = Instant::now() + life.saturating_sub(MARGIN).max(life * 2 / 3).min(life);
        *held = Some(Held { token: answer.access_token.clone(), until });
        Ok(answer.access_token)
    }

    async fn ask(&self, http: &reqwest::Client) -> Result<TokenAnswer, FhirError> {
        let unreachable = |error: reqwest::Error| FhirError::Unavailable(format!("no token: {}", error.without_url()));
        let url = match &self.settings.token_url {
            Some(url) => url.clone(),
            None => {
                let url = format!("{}/.well-known/smart-configuration", self.base);
                let answer = http.get(url).header("accept", "application/json").send().await.map_err(unreachable)?;
                let answer = answer.error_for_status().map_err(unreachable)?;
                answer.json::<SmartConfiguration>().await.map_err(unreachable)?.token_endpoint
            }
        };
        let assertion = self.assertion(&url)?;
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", self.settings.scope.as_str()),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.as_str()),
        ];
        let answer = http.post(url).form(&form).send().await.map_err(unreachable)?;
        let status = answer.status();
        if status.is_client_error() {
            return Err(FhirError::Forbidden(format!("the authorisation server refused the client: {status}")));
        }
        answer.error_for_status().map_err(unreachable)?.json().await.map_err(unreachable)
    }

    /// The signed statement of who we are (RFC 7523; SMART App Launch, "Authenticating to the Token Endpoint").
    fn assertion(&self, url: &str) -> Result<String, FhirError> {
        let now = now_micros() / 1_000_000;
        let broken = |_| FhirError::Unavailable("the statement for the token cannot be signed".to_owned());
        let unique = Secret::random(16).map_err(|failure| FhirError::Unavailable(failure.to_string()))?;
        let mut header = json!({"typ": "JWT", "alg": self.key.algorithm()});
        if let Some(id) = &self.settings.key_id {
            header["kid"] = Value::from(id.as_str());
        }
        let client = self.settings.client_id.as_str();
        let claims = json!({
            "iss": client, "sub": client, "aud": url, "jti": unique.expose(), "iat": now,
            "exp": now + STATEMENT_SECONDS,
        });
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign(signed.as_bytes()).map_err(broken)?;
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

// === impl Key ===

impl Key {
    fn read(pem: &Secret) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.expose().as_bytes()).ok()?;
        let der = der.secret_pkcs8_der();
        let random = SystemRandom::new();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, der, &random)
            .map(Self::Es384)
            .or_else(|_| RsaKeyPair::from_pkcs8(der).map(Self::Rs384))
            .ok()
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Es384(_) => "ES384",
            Self::Rs384(_) => "RS384",
        }
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, ring::error::Unspecified> {
        let random = SystemRandom::new();
        match self {
            Self::Es384(key) => Ok(key.sign(&random, text)?.as_ref().to_vec()),
            Self::Rs384(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA384, &random, text, &mut signature)?;
                Ok(signature)
            }
        }
    }
}

/// A number from 0 to 1 by chance, for the jitter of retries.
pub(super) fn chance() -> f64 {
    let mut byte = [0_u8; 2];
    let _ = SystemRandom::new().fill(&mut byte);
    f64::from(u16::from_be_bytes(byte)) / f64::from(u16::MAX)
}
