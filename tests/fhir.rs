//! The FHIR side as others meet it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

#[path = "fhir/corpora.rs"]
mod corpora;
