#![no_main]
//! `cargo +nightly fuzz run x_matrix`: see the check of this name.

#[path = "../checks/proxy.rs"]
#[allow(dead_code)]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::x_matrix(data));
