//! The bodies of EST: base64 of a "certs-only" CMS message (RFC 5272 section 4.1).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cms::{
    cert::{
        CertificateChoices,
        x509::{
            self,
            der::{Decode as _, Encode as _},
        },
    },
    content_info::ContentInfo,
    signed_data::SignedData,
};
use rustls::pki_types::CertificateDer;

/// Length of a line of base64 (RFC 2045 section 6.8 allows 76): openssl reads no longer ones.
const LINE: usize = 64;

/// A body is not a "certs-only" message.
#[derive(Debug, thiserror::Error)]
#[error("not base64 of certificates in a CMS message")]
pub(super) struct MessageError;

/// A body that holds one certificate.
pub(super) fn certs_only(certificate: &CertificateDer<'_>) -> Result<String, MessageError> {
    let certificate = x509::Certificate::from_der(certificate).map_err(|_| MessageError)?;
    let message = ContentInfo::try_from(certificate).and_then(|message| message.to_der()).map_err(|_| MessageError)?;
    Ok(lines(&message))
}

/// The certificates in a body, in no particular order: a CMS message holds a set.
pub(super) fn certificates(body: &[u8]) -> Result<Vec<CertificateDer<'static>>, MessageError> {
    let packed: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(packed).map_err(|_| MessageError)?;
    let message = ContentInfo::from_der(&der).map_err(|_| MessageError)?;
    let signed: SignedData = message.content.decode_as().map_err(|_| MessageError)?;
    let set = signed.certificates.ok_or(MessageError)?;
    let certificate = |choice: &CertificateChoices| match choice {
        CertificateChoices::Certificate(certificate) => certificate.to_der().map(CertificateDer::from).ok(),
        CertificateChoices::Other(_) => None,
    };
    Ok(set.0.iter().filter_map(certificate).collect())
}

/// Base64 in lines.
pub(super) fn lines(bytes: &[u8]) -> String {
    let packed = STANDARD.encode(bytes);
    let mut text = String::with_capacity(packed.len() + packed.len() / LINE + 1);
    for (index, character) in packed.chars().enumerate() {
        if index > 0 && index % LINE == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push('\n');
    text
}

/// What a request should be made of (RFC 7030 section 4.5.2): a key on P-256, signed with ECDSA and SHA-256.
///
/// ```text
/// SEQUENCE { SEQUENCE { OID ecPublicKey, SET { OID prime256v1 } }, OID ecdsa-with-SHA256 }
/// ```
#[rustfmt::skip]
pub(super) const ATTRIBUTES: [u8; 35] = [
    0x30, 0x21, // SEQUENCE
    0x30, 0x15, // SEQUENCE
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, // ecPublicKey
    0x31, 0x0a, // SET
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, // prime256v1
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02, // ecdsa-with-SHA256
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_survives_the_message() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["vvt".to_owned()]).unwrap().self_signed(&key).unwrap();
        let body = certs_only(certificate.der()).unwrap();
        assert!(body.lines().all(|line| line.len() <= LINE));
        assert_eq!(certificates(body.as_bytes()).unwrap(), [certificate.der().clone()]);
    }

    #[test]
    fn anything_else_is_refused() {
        for body in ["", "!", "MAA=", "MIIB"] {
            assert!(certificates(body.as_bytes()).is_err(), "{body}");
        }
    }
}
