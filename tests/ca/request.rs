//! Certificate requests of every kind: the corpus that the fuzzer starts from, and mutations of a good one.

use std::{fs, path::Path, sync::LazyLock};

use care_federation::pki::{LeafProfile, RequestError, parse_certificate_request};
use proptest::prelude::*;

use super::support::Home;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/certificate_request");
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    fs::read_dir(directory).unwrap().map(read).collect()
}

fn sample(name: &str) -> Vec<u8> {
    corpus().into_iter().find(|(file, _)| file == name).unwrap().1
}

/// Files are named after what must become of them; what the fuzzer adds has names of its own.
#[test]
fn the_corpus_is_accepted_and_refused_as_its_names_say() {
    let corpus = corpus();
    let count = |prefix: &str| corpus.iter().filter(|(name, _)| name.starts_with(prefix)).count();
    assert!(count("ok-") >= 18 && count("bad-") >= 45);
    for (name, body) in &corpus {
        let outcome = parse_certificate_request(body);
        if name.starts_with("ok-") {
            assert!(outcome.is_ok(), "{name}: {outcome:?}");
        } else if name.starts_with("bad-") {
            assert!(outcome.is_err(), "{name}: {outcome:?}");
        }
    }
}

#[test]
fn refusals_say_why() {
    for (name, expected) in [
        ("bad-signature", RequestError::Signature),
        ("bad-name-changed-after-signing", RequestError::Signature),
        ("bad-sha1", RequestError::Signature),
        ("bad-key-p521", RequestError::Key),
        ("bad-key-ed25519", RequestError::Key),
        ("bad-key-rsa1024", RequestError::Key),
        ("bad-san-wildcard", RequestError::Name),
        ("bad-san-nul", RequestError::Name),
        ("bad-san-101-names", RequestError::TooManyNames),
        ("bad-wants-to-be-ca", RequestError::Extension("being a CA")),
        ("bad-too-long", RequestError::TooLarge),
        ("bad-text", RequestError::Encoding),
        ("bad-trailing-byte", RequestError::Malformed),
        ("bad-two-san-extensions", RequestError::Malformed),
    ] {
        assert_eq!(parse_certificate_request(&sample(name)).unwrap_err(), expected, "{name}");
    }
}

#[test]
fn names_come_from_the_alternative_names_and_else_from_the_subject() {
    let names = |file: &str| {
        let request = parse_certificate_request(&sample(file)).unwrap();
        request.names().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names("ok-der"), ["vvt"]);
    assert_eq!(names("ok-no-alternative-names"), ["vvt"]);
    assert_eq!(names("ok-addresses"), ["vvt", "127.0.0.1", "::1"]);
    assert!(names("ok-no-names").is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse_certificate_request(&body);
    }

    /// The signature covers every name and the key: a changed request is refused, or says the same.
    #[test]
    fn a_changed_request_says_nothing_new(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<bool>()) {
        static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| sample("ok-der"));
        let mut body = GOOD.clone();
        let at = at.index(body.len());
        if cut { body.truncate(at) } else { body[at] = to }
        if let Ok(request) = parse_certificate_request(&body) {
            prop_assert_eq!(request, parse_certificate_request(&GOOD).unwrap());
        }
    }
}

/// A label of a DNS name.
fn label() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?"
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever legal names a host has, rustls accepts its certificate for each of them.
    #[test]
    fn every_legal_list_of_names_is_certified(
        first in label(),
        more in prop::collection::vec(prop::collection::vec(label(), 1..4), 0..6),
        loopback in any::<[u8; 3]>(),
    ) {
        use rustls::client::danger::ServerCertVerifier as _;
        let home = Home::new();
        let root = format!("{first}.vvt");
        let below = more.iter().map(|labels| format!("{}.vvt", labels.join(".")));
        let address = format!("127.{}.{}.{}", loopback[0], loopback[1], loopback[2]);
        let leaf = LeafProfile::new(&root).with_sans(below).with_sans([address, "::1".to_owned()]);
        let certificate = home.authority.issue(&leaf).unwrap().certificate().clone();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(home.authority.certificate().der().clone()).unwrap();
        let provider = rustls::crypto::ring::default_provider().into();
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        prop_assert!(certificate.names().len() >= 3);
        for name in certificate.names() {
            let server = rustls::pki_types::ServerName::try_from(name.to_string()).unwrap();
            let now = rustls::pki_types::UnixTime::now();
            let outcome = verifier.verify_server_cert(certificate.der(), &[], &server, &[], now);
            prop_assert!(outcome.is_ok(), "{name}: {outcome:?}");
        }
    }
}
