//! federation-ca: the library, the program and the enrolment server, against openssl and curl.

mod ca {
    mod authority;
    mod support;
}
