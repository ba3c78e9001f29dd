#![no_main]
//! `cargo +nightly fuzz run fhir_json`: see the check of this name.

#[path = "../checks/fhir.rs"]
#[allow(dead_code)]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::fhir_json(data));
