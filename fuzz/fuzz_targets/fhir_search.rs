#![no_main]
//! `cargo +nightly fuzz run fhir_search`: see the check of this name.

#[path = "../checks/fhir.rs"]
#[allow(dead_code)]
mod checks;

thread_local! {
    static SEARCHING: checks::Searching = checks::Searching::new();
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| SEARCHING.with(|searching| searching.fhir_search(data)));
