//! Enrolment over Secure Transport (RFC 7030, clarified by RFC 8951): how other hosts get and renew certificates.

mod client;
mod crowd;
mod door;
mod message;
mod routes;
mod server;
mod throttle;
mod trust;

pub use client::Client;
pub use server::{Options, Server};
pub use trust::{Trust, parse_fingerprint};

/// Path below which EST lives (RFC 7030 section 3.2.2).
const ROOT: &str = "/.well-known/est";
/// Media type of certificates (RFC 7030 section 4.2.3).
const CERTIFICATES: &str = "application/pkcs7-mime; smime-type=certs-only";
/// Media type of a certificate request (RFC 7030 section 4.2.1).
const REQUEST: &str = "application/pkcs10";
