//! What must hold for whatever a stranger sends to the proxy. Fuzzers search for a counterexample; the tests replay
//! what is stored.

use std::{io::Cursor, sync::Arc};

use care_federation::{
    proxy::{
        http1::head::{Bounds, read_request},
        policy::Policy,
        route::{Router, readings},
        settings::{Server, Settings},
        x_matrix::{XMatrix, parameters},
    },
    service::settings::parse_toml,
};

/// An `Authorization` value. What is read stands in the header once, however it is split.
pub fn x_matrix(data: &[u8]) {
    let Some(Ok(header)) = parameters(data).map(XMatrix::parse) else { return };
    assert!(!header.origin.is_empty() && header.origin.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!header.origin.contains([',', '"', '\\']));
    let text = String::from_utf8_lossy(data).to_ascii_lowercase();
    let origins = text.split([',', ' ', '\t']).filter(|part| part.starts_with("origin=")).count();
    assert_eq!(origins, 1, "{text}");
}

/// A head and what follows it. A second reader that gets only the head reads the same.
pub fn request_head(data: &[u8]) {
    let bounds = Bounds { bytes: 8192, fields: 64 };
    let read = |input: &[u8]| read_request(input, bounds, |head, framing| (format!("{head:?}"), framing));
    if let Ok(Some((size, taken))) = read(data) {
        assert!(size <= data.len());
        assert_eq!(read(&data[..size]), Ok(Some((size, taken))));
        assert_eq!(read(&data[..size - 1]), Ok(None));
    }
}

/// A line with a host and a line with a path. A host is found whatever its case, and a path that is decoded and
/// resolved has nothing left to resolve.
pub fn host_routing(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (host, path) = text.split_once('\n').unwrap_or((&text, ""));
    let router = router();
    assert_eq!(router.server_of(host), router.server_of(&host.to_ascii_uppercase()));
    let readings_of = readings(path);
    assert!(readings_of.iter().all(|reading| reading.is_empty() || reading.starts_with('/')));
    if let Some(resolved) = readings_of.last() {
        assert!(!resolved.contains("//") && !resolved.split('/').any(|segment| matches!(segment, "." | "..")));
    }
}

/// The first bytes on a TLS port. Whatever they are, they name one of the servers or none.
pub fn client_hello_sni(data: &[u8]) {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut input = Cursor::new(data);
    while matches!(acceptor.read_tls(&mut input), Ok(count) if count > 0) {
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                let known = name.as_deref().is_none_or(|name| router().server_of(name).is_some());
                assert_eq!(router().named(name.as_deref()).is_some(), known);
                return;
            }
            Err(_) => return,
        }
    }
}

/// A settings file. Settings that are right are so again after they were written and read.
pub fn proxy_settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(settings) = parse_toml::<Settings>(text, "fuzz.toml") else { return };
    if settings.check().is_ok() {
        let written = toml::to_string(&settings).expect("settings can be written");
        assert_eq!(parse_toml::<Settings>(&written, "written.toml").expect("and read"), settings);
    }
}

fn router() -> Router {
    let mut settings = Settings::default();
    for name in ["vvt", "huisarts:8448"] {
        settings.servers.insert(name.to_owned(), Server::new("http://127.0.0.1:1".parse().expect("an upstream")));
    }
    let policy = Policy::new(settings.policy.clone()).expect("a policy");
    Router::new(&settings, Arc::new(policy))
}
