//! Floor 2: FHIR R4 resources, REST client, embedded repository and server, subscriptions.
//!
//! [`resources`] are the types; [`server::FhirServer`] is what a FHIR server does, whoever it is.

pub mod audit;
pub mod capability;
pub mod client;
pub mod definitions;
pub mod etag;
pub mod id;
pub mod instant;
pub mod numbers;
pub mod outcome;
pub mod pages;
pub mod query;
pub mod repository;
pub mod resources;
pub mod rest;
pub mod server;
pub mod subscriptions;
pub mod traced;
pub mod validation;
