//! federation-ca: the library, the program and the enrolment server, against openssl and curl.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that meets something unexpected fails there")]

mod ca {
    mod authority;
    mod crash;
    mod est;
    mod program;
    mod request;
    mod support;
}
