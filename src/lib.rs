//! care-federation: a reproducible, federated Matrix network for care organisations, with a FHIR bridge.
//!
//! The house has four floors; a room imports only from lower floors, and two rooms on one floor do not
//! import each other:
//!
//! | floor | room | what it knows |
//! |---|---|---|
//! | 1 | [`service`] | what every program shares: settings, logs, systemd, listeners, errors for people |
//! | 1 | [`pki`] | keys, certificates, renewal, enrolment; nothing of Matrix |
//! | 2 | [`proxy`] | TLS, routing, federation policy, egress |
//! | 2 | [`matrix`] | application-service API, homeserver client |
//! | 2 | [`fhir`] | FHIR R4 resources, client, embedded server |
//! | 3 | [`bridge`] | the mapping between the two and the engine that carries it |
//! | 4 | [`lab`] | the whole network on one machine, its scenario, its measurements |

// What tests share with those of this crate itself calls it by its name.
#[cfg(test)]
extern crate self as care_federation;

pub mod bridge;
pub mod fhir;
pub mod lab;
pub mod matrix;
pub mod pki;
pub mod proxy;
pub mod service;
