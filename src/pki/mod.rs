//! Floor 1: keys, certificates, renewal and enrolment. Knows nothing of Matrix.
//!
//! An [`Authority`] lives in a directory. [`Authority::open_or_create`] makes it for the DNS names of a network,
//! [`Authority::issue`] sees to it that a host has a valid key and certificate, [`Authority::renew_due`] renews them in
//! time, [`Authority::revoke`] ends one. Everything may be called again at any time: what is in order is left alone.

mod authority;
mod certificate;
mod clock;
pub mod command;
mod enrol;
pub mod est;
mod issue;
mod lock;
mod name;
mod pair;
mod profile;
mod record;
mod request;
mod revoke;
mod serial;
mod signer;
mod token;

pub use authority::{Authority, Creation};
pub use certificate::{Certificate, CertificateError};
pub use clock::{Clock, readable};
pub use enrol::EnrolError;
pub use issue::{Outcome, Renewal};
pub use name::{HostName, NameError, Permitted, loopback};
pub use pair::{Pair, PairStore};
pub use profile::{AUTHORITY_LIFETIME, AuthorityProfile, LEAF_LIFETIME, LeafProfile};
pub use record::{Issued, Origin, Reason, Record, Revocation};
pub use request::{CertificateRequest, REQUEST_LIMIT, RequestError, parse_certificate_request};
pub use revoke::CRL_LIFETIME;
pub use serial::Serial;
pub use token::{Grant, TOKEN_LIFETIME};
