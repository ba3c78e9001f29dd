//! Certificate requests (PKCS #10, RFC 2986): what a stranger sends, so nothing in them is believed unchecked.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{PublicKeyData as _, SubjectPublicKeyInfo};
use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject as _};
use x509_parser::{
    certification_request::X509CertificationRequest,
    cri_attributes::ParsedCriAttribute,
    extensions::{ParsedExtension, X509Extension},
    oid_registry,
    prelude::FromDer as _,
    public_key::PublicKey,
    x509::X509Version,
};

use super::{certificate::host_names, name::HostName};

/// Largest request that is looked at, in bytes as they came. One with an RSA key of 4096 bits has about 1,700.
pub const REQUEST_LIMIT: usize = 64 * 1024;
/// Most names that a request may hold.
const MOST_NAMES: usize = 100;
/// Accepted sizes of RSA keys, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// A certificate request whose sender has shown to hold the private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    subject: Vec<(String, String)>,
    names: Vec<HostName>,
    key: SubjectPublicKeyInfo,
}

/// Why a request is refused. The sentences are for the person who sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Larger than [`REQUEST_LIMIT`].
    #[error("the request is larger than {REQUEST_LIMIT} bytes")]
    TooLarge,
    /// Neither base64, nor PEM, nor DER.
    #[error("the request is neither base64 nor PEM of a PKCS #10 certificate request")]
    Encoding,
    /// Not a request.
    #[error("the request is not a PKCS #10 certificate request")]
    Malformed,
    /// The signature is not by the key in the request: no proof of possession.
    #[error("the request is not signed by the key that it holds")]
    Signature,
    /// A key that no certificate is made for.
    #[error("the request holds a key that is not accepted: use ECDSA P-256 or P-384, or RSA of 2048 to 4096 bits")]
    Key,
    /// A name that is not a DNS name or an IP address.
    #[error("the request asks for a name that is neither a DNS name nor an IP address")]
    Name,
    /// More names than a certificate may have.
    #[error("the request asks for more than {MOST_NAMES} names")]
    TooManyNames,
    /// An extension that would give the certificate other powers.
    #[error("the request asks for {0}, which certificates of this authority do not have")]
    Extension(&'static str),
}

/// Parses and checks a certificate request: base64 of DER as EST has it (RFC 8951 section 3.1), PEM, or DER.
///
/// It never panics, whatever the bytes are.
///
/// # Errors
/// When it is not a request, is not signed by its own key, or asks for what is never given.
pub fn parse_certificate_request(body: &[u8]) -> Result<CertificateRequest, RequestError> {
    if body.len() > REQUEST_LIMIT {
        return Err(RequestError::TooLarge);
    }
    let der = decode(body)?;
    let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| RequestError::Malformed)?;
    if !rest.is_empty() || request.certification_request_info.version != X509Version::V1 {
        return Err(RequestError::Malformed);
    }
    let key = public_key(&request)?;
    check_signature(&request)?;
    let mut names = requested_names(&request)?;
    let subject = subject(&request)?;
    if names.is_empty() {
        // Old clients name the host in the subject only.
        for (_, name) in subject.iter().filter(|(kind, _)| kind == COMMON_NAME) {
            names.push(name.parse().map_err(|_| RequestError::Name)?);
        }
    }
    Ok(CertificateRequest { subject, names, key })
}

/// Object identifier of a common name.
const COMMON_NAME: &str = "2.5.4.3";

// === impl CertificateRequest ===

impl CertificateRequest {
    /// The hosts that the certificate is wanted for; where the request has no alternative names, its common name.
    pub fn names(&self) -> &[HostName] {
        &self.names
    }

    /// The common name of its subject.
    pub fn common_name(&self) -> Option<&str> {
        self.subject.iter().find(|(kind, _)| kind == COMMON_NAME).map(|(_, name)| name.as_str())
    }

    /// Whether the subject is just this common name, or is empty where there is none.
    pub(super) fn has_subject(&self, common_name: Option<&str>) -> bool {
        match (&self.subject[..], common_name) {
            ([], None) => true,
            ([(kind, name)], Some(expected)) => kind == COMMON_NAME && name == expected,
            _ => false,
        }
    }

    /// The public key.
    pub(super) fn key(&self) -> &SubjectPublicKeyInfo {
        &self.key
    }
}

fn decode(body: &[u8]) -> Result<Vec<u8>, RequestError> {
    let text = body.trim_ascii_start();
    if text.starts_with(b"-----BEGIN ") {
        let der = CertificateSigningRequestDer::from_pem_slice(text).map_err(|_| RequestError::Encoding)?;
        return Ok(der.as_ref().to_vec());
    }
    // A SEQUENCE begins with 0x30; the same in base64 begins with M.
    if body.first() == Some(&0x30) {
        return Ok(body.to_vec());
    }
    let packed: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    match STANDARD.decode(packed) {
        Ok(der) if !der.is_empty() => Ok(der),
        _ => Err(RequestError::Encoding),
    }
}

/// The key, if certificates are made for its kind and it survives being written again byte for byte.
fn public_key(request: &X509CertificationRequest<'_>) -> Result<SubjectPublicKeyInfo, RequestError> {
    let given = &request.certification_request_info.subject_pki;
    let acceptable = match given.parsed().map_err(|_| RequestError::Key)? {
        PublicKey::EC(point) => {
            let curve = given.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
            let known = curve
                .is_some_and(|curve| curve == oid_registry::OID_EC_P256 || curve == oid_registry::OID_NIST_EC_P384);
            known && point.data().first() == Some(&4)
        }
        PublicKey::RSA(key) => {
            RSA_BITS.contains(&key.key_size()) && key.try_exponent().is_ok_and(|e| e >= 65_537 && e % 2 == 1)
        }
        _ => false,
    };
    let key = SubjectPublicKeyInfo::from_der(given.raw).map_err(|_| RequestError::Key)?;
    if acceptable && key.subject_public_key_info() == given.raw { Ok(key) } else { Err(RequestError::Key) }
}

fn check_signature(request: &X509CertificationRequest<'_>) -> Result<(), RequestError> {
    let algorithm = &request.signature_algorithm.algorithm;
    let outdated = [oid_registry::OID_PKCS1_SHA1WITHRSA, oid_registry::OID_SHA1_WITH_RSA];
    if outdated.contains(algorithm) {
        return Err(RequestError::Signature);
    }
    request.verify_signature().map_err(|_| RequestError::Signature)
}

/// The subject as kinds and texts, in its order.
fn subject(request: &X509CertificationRequest<'_>) -> Result<Vec<(String, String)>, RequestError> {
    let attributes = request.certification_request_info.subject.iter_attributes();
    attributes
        .map(|attribute| {
            let text = attribute.as_str().map_err(|_| RequestError::Name)?;
            Ok((attribute.attr_type().to_id_string(), text.to_owned()))
        })
        .collect()
}

/// The alternative names that the request asks for, each once, after a look at what else it asks for.
fn requested_names(request: &X509CertificationRequest<'_>) -> Result<Vec<HostName>, RequestError> {
    let mut names = None;
    for attribute in request.certification_request_info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else {
            if attribute.oid == oid_registry::OID_PKCS9_EXTENSION_REQUEST {
                return Err(RequestError::Malformed);
            }
            continue;
        };
        for extension in &requested.extensions {
            let Some(found) = names_in(extension)? else { continue };
            if names.replace(found).is_some() {
                return Err(RequestError::Malformed);
            }
        }
    }
    let mut names: Vec<HostName> = names.unwrap_or_default();
    if names.len() > MOST_NAMES {
        return Err(RequestError::TooManyNames);
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The names where the extension holds them. Usages are passed over: the profile sets them for everyone.
fn names_in(extension: &X509Extension<'_>) -> Result<Option<Vec<HostName>>, RequestError> {
    match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => {
            host_names(&names.general_names).map(Some).map_err(|_| RequestError::Name)
        }
        ParsedExtension::BasicConstraints(constraints) if constraints.ca => Err(RequestError::Extension("being a CA")),
        ParsedExtension::NameConstraints(_) => Err(RequestError::Extension("name constraints")),
        ParsedExtension::ParseError { .. } => Err(RequestError::Malformed),
        ParsedExtension::UnsupportedExtension { .. } if extension.critical => {
            Err(RequestError::Extension("a critical extension that is not known here"))
        }
        _ => Ok(None),
    }
}
