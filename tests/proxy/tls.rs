//! Handshakes: which certificate, which server, and what is said to those who come wrongly.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use rustls::pki_types::CertificateDer;

use crate::support::{Network, ask, connect, read_rest, reply};

fn certificate_of(
    stream: &rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream>,
) -> CertificateDer<'static> {
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn the_certificate_is_that_of_the_name_asked_for() {
    let network = Network::new();
    for name in ["vvt", "huisarts", "vvt.localhost"] {
        // The client has verified chain and name, or there would be no stream.
        let mut stream = network.connect_tls(Some(name)).unwrap();
        let response = ask(&mut stream, format!("GET / HTTP/1.1\r\nHost: {name}:8448\r\n\r\n"));
        assert_eq!(response.text(), if name == "huisarts" { "huisarts" } else { "hello" });
    }
    assert_eq!(network.vvt.last().fields("x-forwarded-proto"), ["https"]);
}

#[test]
fn a_client_without_a_name_gets_the_default_and_is_routed_by_host() {
    let network = Network::new();
    let mut stream = network.connect_tls(None).unwrap();
    for (host, text) in [("vvt", "hello"), ("huisarts", "huisarts")] {
        assert_eq!(ask(&mut stream, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).text(), text);
    }
    assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\nHost: other\r\n\r\n").status, 404);
}

#[test]
fn an_unknown_name_gets_the_alert_unrecognized_name() {
    let network = Network::new();
    let error = network.connect_tls(Some("rogue")).unwrap_err().to_string();
    assert!(error.contains("UnrecognisedName") || error.contains("UnrecognizedName"), "{error}");
}

#[test]
fn a_host_that_differs_from_the_name_is_421() {
    let network = Network::new();
    let mut stream = network.connect_tls(Some("vvt")).unwrap();
    for host in ["huisarts", "unknown"] {
        let response = ask(&mut stream, format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!((response.status, response.error_code().as_str()), (421, "M_UNKNOWN"), "{host}");
    }
    assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\nHost: vvt\r\n\r\n").status, 200);
    assert!(network.huisarts.received().is_empty());
}

#[test]
fn plain_text_on_the_tls_port_gets_an_answer() {
    let network = Network::new();
    let mut stream = connect(network.tls());
    let response = ask(&mut stream, "GET / HTTP/1.1\r\nHost: vvt\r\n\r\n");
    assert_eq!(response.status, 400);
    assert!(response.text().contains("https"), "{}", response.text());
    assert_eq!(read_rest(&mut stream), b"");
}

#[test]
fn a_client_without_the_ca_fails() {
    let (network, other) = (Network::new(), crate::support::Authority::new());
    let name = rustls::pki_types::ServerName::try_from("vvt").unwrap();
    let mut connection = rustls::ClientConnection::new(other.client(&[]), name).unwrap();
    let error = connection.complete_io(&mut connect(network.tls())).unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    network.wait_for_metric("federation_proxy_handshakes_total{result=\"failed\"} 1");
}

#[test]
fn tls_1_2_is_spoken_and_nothing_older_understood() {
    let network = Network::new();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    for (version, name) in [(&rustls::version::TLS12, "TLSv1_2"), (&rustls::version::TLS13, "TLSv1_3")] {
        let mut narrow = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        narrow.dangerous().set_certificate_verifier(Arc::new(Anything(Arc::clone(&provider))));
        let name_asked = rustls::pki_types::ServerName::try_from("vvt").unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::new(narrow), name_asked).unwrap();
        let mut socket = connect(network.tls());
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).unwrap();
        }
        assert_eq!(format!("{:?}", connection.protocol_version().unwrap()), name);
    }
    // A ClientHello of TLS 1.0 without extensions.
    let hello = [&[22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1][..], &[7; 32], &[0, 0, 2, 0, 47, 1, 0]].concat();
    let mut stream = connect(network.tls());
    stream.write_all(&hello).unwrap();
    let alert = read_rest(&mut stream);
    assert_eq!(alert.first(), Some(&21), "{alert:?}");
}

/// Takes any certificate: what is tested is the version alone.
#[derive(Debug)]
struct Anything(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn a_session_is_resumed_by_its_ticket() {
    let network = Network::new();
    let config = network.authority.client(&[]);
    for _ in 0..2 {
        let name = rustls::pki_types::ServerName::try_from("vvt").unwrap();
        let connection = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, connect(network.tls()));
        assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\nHost: vvt\r\n\r\n").status, 200);
    }
    let metrics = network.metrics();
    assert!(metrics.contains("federation_proxy_handshakes_total{result=\"resumed\"} 1"), "{metrics}");
}

#[test]
fn a_new_certificate_is_taken_over_and_no_connection_is_lost() {
    let network = Network::new();
    let mut before = network.connect_tls(Some("vvt")).unwrap();
    let old = certificate_of(&before);
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        // Traffic goes on all the while, on kept connections and on new ones.
        scope.spawn(|| {
            let mut kept = network.connect_tls(Some("vvt")).unwrap();
            while !stop.load(Relaxed) {
                for stream in [&mut kept, &mut network.connect_tls(Some("vvt")).unwrap()] {
                    assert_eq!(ask(stream, "GET / HTTP/1.1\r\nHost: vvt\r\n\r\n").status, 200);
                    count.fetch_add(1, Relaxed);
                }
            }
        });
        crate::support::wait_for("traffic", || count.load(Relaxed) > 1);
        network.authority.issue(network.directory.path(), "vvt", &["vvt", "vvt.localhost"]);
        crate::support::wait_for("the new certificate", || {
            certificate_of(&network.connect_tls(Some("vvt")).unwrap()) != old
        });
        let so_far = count.load(Relaxed);
        crate::support::wait_for("traffic", || count.load(Relaxed) > so_far + 1);
        stop.store(true, Relaxed);
    });
    assert_eq!(ask(&mut before, "GET / HTTP/1.1\r\nHost: vvt\r\n\r\n").status, 200);
}

#[test]
fn a_certificate_behind_a_swapped_link_is_taken_over() {
    let links = tempfile::tempdir().unwrap();
    let generations = [links.path().join("1"), links.path().join("2")];
    let link = links.path().join("vvt");
    let network = Network::with(
        |settings| {
            let vvt = settings.servers.get_mut("vvt").unwrap();
            std::fs::create_dir(&generations[0]).unwrap();
            for (file, name) in [(&mut vvt.certificate, "cert.pem"), (&mut vvt.key, "key.pem")] {
                std::fs::copy(file.as_ref().unwrap(), generations[0].join(name)).unwrap();
                *file = Some(link.join(name));
            }
            std::os::unix::fs::symlink(&generations[0], &link).unwrap();
        },
        |_, stream| reply(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    );
    let old = certificate_of(&network.connect_tls(Some("vvt")).unwrap());
    network.authority.issue(links.path(), "2", &["vvt"]);
    let beside = links.path().join("beside");
    std::os::unix::fs::symlink(&generations[1], &beside).unwrap();
    std::fs::rename(&beside, &link).unwrap();
    crate::support::wait_for("the new certificate", || {
        certificate_of(&network.connect_tls(Some("vvt")).unwrap()) != old
    });
}

#[test]
fn a_pair_that_does_not_fit_leaves_the_old_in_place() {
    let network = Network::new();
    let old = certificate_of(&network.connect_tls(Some("vvt")).unwrap());
    let other = network.authority.pair(&["vvt"]);
    std::fs::write(network.directory.path().join("vvt/key.pem"), other.1).unwrap();
    assert_keeps(&network, &old);
}

#[test]
fn a_pair_that_clients_would_not_accept_leaves_the_old_in_place() {
    let expired = |network: &Network| {
        network.authority.pair_with(&["vvt"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1))
    };
    for pair in [expired, |network: &Network| network.authority.pair(&["another"])] {
        let network = Network::new();
        let old = certificate_of(&network.connect_tls(Some("vvt")).unwrap());
        let (certificate, key) = pair(&network);
        std::fs::write(network.directory.path().join("vvt/cert.pem"), certificate).unwrap();
        std::fs::write(network.directory.path().join("vvt/key.pem"), key).unwrap();
        assert_keeps(&network, &old);
    }
}

/// Makes the proxy read the pairs again, and sees that it goes on with the one of vvt that it had.
fn assert_keeps(network: &Network, old: &CertificateDer<'static>) {
    // That the broken pair was looked at shows in that a right one for the other server is taken over with it.
    let others = certificate_of(&network.connect_tls(Some("huisarts")).unwrap());
    network.authority.issue(network.directory.path(), "huisarts", &["huisarts"]);
    network.proxy.reload();
    crate::support::wait_for("the other certificate", || {
        certificate_of(&network.connect_tls(Some("huisarts")).unwrap()) != others
    });
    assert_eq!(certificate_of(&network.connect_tls(Some("vvt")).unwrap()), *old);
}

#[test]
fn a_stalled_handshake_is_ended() {
    let network = Network::with(|settings| settings.limits.handshake_time = "50ms".parse().unwrap(), |_, _| false);
    for start in [&b""[..], &[22, 3, 1]] {
        let mut stream = connect(network.tls());
        stream.write_all(start).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
}

#[test]
fn handshakes_over_the_rate_are_refused() {
    let network = Network::with(|settings| settings.limits.handshakes_per_second = 1, |_, _| false);
    assert!(network.connect_tls(Some("vvt")).is_ok());
    let refused = (0..5).filter(|_| network.connect_tls(Some("vvt")).is_err()).count();
    assert!(refused >= 3, "{refused}");
    assert!(network.metrics().contains("federation_proxy_handshakes_total{result=\"refused\"}"));
}
