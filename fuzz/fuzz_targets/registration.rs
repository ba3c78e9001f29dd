//! Registration files as people write them.

#![no_main]

use care_federation::matrix::Registration;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Ok(text) = std::str::from_utf8(file) else { return };
    let Ok(registration) = Registration::parse(text, "file") else { return };
    let _ = registration.remarks(text);
    let written = registration.to_yaml().expect("what was read can be written");
    assert_eq!(Registration::parse(&written, "again").expect("what was written can be read"), registration);
});
