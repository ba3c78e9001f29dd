//! Certificate requests as strangers send them to the enrolment server.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let _ = care_federation::pki::parse_certificate_request(body);
});
