#![no_main]
//! `cargo +nightly fuzz run client_hello_sni`: see the check of this name.

#[path = "../checks/proxy.rs"]
#[allow(dead_code)]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::client_hello_sni(data));
