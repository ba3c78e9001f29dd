//! Enrolment over EST, with curl and openssl as clients, as RFC 7030 has it.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    thread::{self, JoinHandle},
};

use care_federation::{
    pki::{
        Authority, Clock, LeafProfile, Outcome, PairStore, Reason, Renewal,
        est::{Client, Options, Server, Trust, parse_fingerprint},
        loopback,
    },
    service::{failure::Failure, listeners::Inherited, secrets::Secret},
};
use time::{Duration, OffsetDateTime};
use tokio_util::sync::CancellationToken;

use super::support::{Home, openssl, outsider, text, workspace};

/// An authority with its enrolment server on a free port.
struct Office {
    home: Home,
    address: SocketAddr,
    stop: CancellationToken,
    server: Option<JoinHandle<Result<(), Failure>>>,
}

/// What curl got.
struct Answer {
    status: u16,
    body: Vec<u8>,
    head: String,
}

impl Office {
    fn open() -> Self {
        Self::open_in(Home::new())
    }

    fn open_in(home: Home) -> Self {
        let leaf = LeafProfile::new("localhost").with_sans(loopback().map(|name| name.to_string()));
        let listen = vec!["127.0.0.1:0".parse().unwrap()];
        let options = Options { leaf, listen, admin: None, renew: false };
        let server = Server::open(home.directory.path(), options, &mut Inherited::take()).unwrap();
        let address = server.addresses()[0];
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let server = thread::spawn(move || tokio::runtime::Runtime::new().unwrap().block_on(server.run(stopped)));
        Self { home, address, stop, server: Some(server) }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    fn token(&self, name: &str, sans: &[&str]) -> String {
        let leaf = LeafProfile::new(name).with_sans(sans.iter().copied());
        self.home.authority.make_token(&leaf, Duration::HOUR).unwrap().0.expose().to_owned()
    }

    /// A key and a request for names, the first of which is the common name. Returns where they are.
    fn request(&self, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let (key, request) = (self.home.path(&format!("{file}.key")), self.home.path(&format!("{file}.b64")));
        let sans: Vec<_> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let sans = format!("subjectAltName={}", sans.join(","));
        let subject = format!("/CN={}", names[0]);
        let der = self.home.path(&format!("{file}.der"));
        openssl(&[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-noenc",
            "-keyout",
            text(&key),
            "-subj",
            &subject,
            "-addext",
            &sans,
            "-outform",
            "DER",
            "-out",
            text(&der),
        ]);
        openssl(&["base64", "-in", text(&der), "-out", text(&request)]);
        (key, request)
    }

    fn curl(&self, operation: &str, arguments: &[&str]) -> Answer {
        let head = tempfile::NamedTempFile::new().unwrap();
        let output = outsider("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"])
            .args(["--cacert", text(&self.home.path("ca.pem")), "--dump-header", text(head.path())])
            .args(arguments)
            .arg(format!("{}/.well-known/est/{operation}", self.url()))
            .output()
            .unwrap();
        let head = fs::read_to_string(head.path()).unwrap().to_lowercase();
        // After `100 Continue` comes the real one.
        let status = head.lines().rfind(|line| line.starts_with("http/"));
        let status = status.and_then(|line| line.split(' ').nth(1)).map_or(0, |code| code.parse().unwrap());
        Answer { status, body: output.stdout, head }
    }

    fn post(&self, operation: &str, body: &std::path::Path, more: &[&str]) -> Answer {
        let body = format!("@{}", text(body));
        let mut arguments = vec!["--header", "Content-Type: application/pkcs10", "--data-binary", &body];
        arguments.extend(more);
        self.curl(operation, &arguments)
    }

    fn enrol(&self, token: &str, body: &std::path::Path) -> Answer {
        self.post("simpleenroll", body, &["--user", &format!("host:{token}")])
    }

    /// The certificate in an answer, written to a file.
    fn certificate(&self, answer: &Answer, file: &str) -> PathBuf {
        let (body, pem) = (self.home.path(&format!("{file}.p7")), self.home.path(&format!("{file}.pem")));
        fs::write(&body, &answer.body).unwrap();
        let der = self.home.path(&format!("{file}.p7.der"));
        openssl(&["base64", "-d", "-in", text(&body), "-out", text(&der)]);
        openssl(&["pkcs7", "-inform", "DER", "-in", text(&der), "-print_certs", "-out", text(&pem)]);
        pem
    }

    /// A host that has enrolled: its certificate and its key.
    fn enrolled(&self, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let (key, request) = self.request(file, names);
        let answer = self.enrol(&self.token(names[0], &names[1..]), &request);
        assert_eq!(answer.status, 200, "{}", answer.said());
        (self.certificate(&answer, file), key)
    }

    fn re_enrol(&self, certificate: &std::path::Path, key: &std::path::Path, body: &std::path::Path) -> Answer {
        self.post("simplereenroll", body, &["--cert", text(certificate), "--key", text(key)])
    }

    /// A host that enrols with this program's own client.
    fn client(&self, directory: PathBuf) -> Client {
        let leaf = LeafProfile::new("huisarts").with_sans(["huisarts.localhost"]);
        let trust = Some(Trust::File(self.home.path("ca.pem")));
        Client { directory, server: self.url(), trust, leaf, clock: Clock::system() }
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.stop.cancel();
        let server = self.server.take().unwrap().join();
        if !thread::panicking() {
            server.unwrap().unwrap();
        }
    }
}

impl Answer {
    fn said(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

#[test]
fn openssl_reads_the_ca_certificates() {
    let office = Office::open();
    let answer = office.curl("cacerts", &[]);
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/pkcs7-mime"), "{}", answer.head);
    assert!(answer.head.contains("content-transfer-encoding: base64"), "{}", answer.head);
    let got = openssl(&["x509", "-in", text(&office.certificate(&answer, "root"))]);
    assert_eq!(got, fs::read_to_string(office.home.path("ca.pem")).unwrap());
}

#[test]
fn openssl_reads_the_wanted_attributes() {
    let office = Office::open();
    let answer = office.curl("csrattrs", &[]);
    assert_eq!(answer.status, 200);
    let (file, der) = (office.home.path("attributes"), office.home.path("attributes.der"));
    fs::write(&file, &answer.body).unwrap();
    openssl(&["base64", "-d", "-in", text(&file), "-out", text(&der)]);
    let parsed = openssl(&["asn1parse", "-inform", "DER", "-in", text(&der)]);
    for word in ["id-ecPublicKey", "prime256v1", "ecdsa-with-SHA256"] {
        assert!(parsed.contains(word), "{parsed}");
    }
}

#[test]
fn a_host_enrols_and_renews_with_openssl_and_curl() {
    let office = Office::open();
    let names = ["huisarts", "huisarts.localhost"];
    let (certificate, key) = office.enrolled("first", &names);
    let verified = office.home.verify(&certificate, &["-verify_hostname", "huisarts", "-purpose", "sslserver"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let public = openssl(&["x509", "-in", text(&certificate), "-noout", "-pubkey"]);
    assert_eq!(public, openssl(&["pkey", "-in", text(&key), "-pubout"]));

    let (new_key, request) = office.request("second", &names);
    let answer = office.re_enrol(&certificate, &key, &request);
    assert_eq!(answer.status, 200, "{}", answer.said());
    let renewed = office.certificate(&answer, "second");
    assert!(office.home.verify(&renewed, &["-verify_hostname", "huisarts.localhost"]).status.success());
    let public = openssl(&["x509", "-in", text(&renewed), "-noout", "-pubkey"]);
    assert_eq!(public, openssl(&["pkey", "-in", text(&new_key), "-pubout"]));
}

#[test]
fn a_token_is_good_once_whatever_it_comes_in() {
    let office = Office::open();
    let (_, request) = office.request("host", &["vvt"]);
    let token = office.token("vvt", &[]);
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(office.post("simpleenroll", &request, &["--header", &bearer]).status, 200);
    let again = office.enrol(&token, &request);
    assert_eq!(again.status, 401);
    assert!(again.head.contains("www-authenticate: basic"), "{}", again.head);
    assert!(again.said().contains("used before"));
    assert_eq!(office.enrol("wrong", &request).status, 401);
    let unsaid = office.post("simpleenroll", &request, &[]);
    assert_eq!(unsaid.status, 401);
    assert!(unsaid.head.contains("www-authenticate: basic"), "{}", unsaid.head);
}

#[test]
fn of_two_at_once_with_one_token_one_wins() {
    let office = Office::open();
    let token = office.token("vvt", &[]);
    let (_, request) = office.request("host", &["vvt"]);
    let mut statuses: Vec<_> = thread::scope(|scope| {
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(|| office.enrol(&token, &request).status)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401, 401, 401]);
}

#[test]
fn an_expired_token_is_none() {
    let office = Office::open();
    let earlier = office.home.later(Duration::ZERO);
    let (token, _) = earlier.make_token(&LeafProfile::new("vvt"), Duration::SECOND).unwrap();
    let (_, request) = office.request("host", &["vvt"]);
    let body = fs::read(&request).unwrap();
    let refused = office.home.later(Duration::seconds(2)).enrol(token.expose(), &body).unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");
}

#[test]
fn a_refused_request_does_not_use_the_token_up() {
    let office = Office::open();
    let token = office.token("vvt", &["vvt.localhost"]);
    let garbage = office.home.path("garbage");
    fs::write(&garbage, "bm90IGEgcmVxdWVzdA==").unwrap();
    let answer = office.enrol(&token, &garbage);
    assert_eq!(answer.status, 400);
    assert!(answer.said().contains("not a PKCS #10"), "{}", answer.said());
    for (names, sentence) in [
        (&["huisarts"][..], "does not allow the name huisarts"),
        (&["vvt", "apotheek"], "does not allow the name apotheek"),
        (&["vvt.localhost"], "does not hold the name that the token is for"),
    ] {
        let (_, request) = office.request("other", names);
        let answer = office.enrol(&token, &request);
        assert_eq!(answer.status, 403, "{names:?}");
        assert!(answer.said().contains(sentence), "{}", answer.said());
    }
    let (_, request) = office.request("right", &["vvt"]);
    assert_eq!(office.enrol(&token, &request).status, 200);
}

#[test]
fn a_renewal_keeps_its_names() {
    let office = Office::open();
    let (certificate, key) = office.enrolled("host", &["huisarts", "huisarts.localhost"]);
    for names in [&["huisarts"][..], &["huisarts", "huisarts.localhost", "vvt"], &["huisarts.localhost", "huisarts"]] {
        let (_, request) = office.request("next", names);
        let answer = office.re_enrol(&certificate, &key, &request);
        assert_eq!(answer.status, 403, "{names:?}");
        assert!(answer.said().contains("keeps its names"), "{}", answer.said());
    }
}

#[test]
fn a_renewal_needs_a_certificate_that_counts() {
    let office = Office::open();
    let (certificate, key) = office.enrolled("host", &["vvt"]);
    let (_, request) = office.request("next", &["vvt"]);
    let none = office.post("simplereenroll", &request, &[]);
    assert_eq!(none.status, 403);
    assert!(none.said().contains("TLS handshake"));

    office.home.authority.revoke("vvt", Reason::KeyCompromise).unwrap();
    let revoked = office.re_enrol(&certificate, &key, &request);
    assert_eq!(revoked.status, 403);
    assert!(revoked.said().contains("revoked"), "{}", revoked.said());

    // Of another CA, and expired: the handshake itself fails.
    let rogue = Home::new();
    rogue.authority.issue(&LeafProfile::new("vvt")).unwrap();
    let refused = office.re_enrol(&rogue.path("certs/vvt/cert.pem"), &rogue.path("certs/vvt/key.pem"), &request);
    assert_eq!(refused.status, 0);
}

#[test]
fn an_expired_certificate_is_not_renewed() {
    let past = Home::at(OffsetDateTime::now_utc() - Duration::days(100));
    past.authority.issue(&LeafProfile::new("vvt")).unwrap();
    let (certificate, key) = (past.path("certs/vvt/cert.pem"), past.path("certs/vvt/key.pem"));
    let office = Office::open_in(past);
    let (_, request) = office.request("next", &["vvt"]);
    assert_eq!(office.re_enrol(&certificate, &key, &request).status, 0, "the handshake fails");

    // And if it expires while the connection is open, the authority sees that.
    let pair = Authority::pairs(office.home.directory.path()).load("vvt").unwrap().unwrap();
    let now = Authority::open(office.home.directory.path()).unwrap();
    let refused = now.re_enrol(&pair.certificate, &fs::read(request).unwrap()).unwrap_err();
    assert!(refused.to_string().contains("not valid now"), "{refused}");
}

#[test]
fn bodies_and_kinds_that_are_no_requests_are_refused() {
    let office = Office::open();
    let token = office.token("vvt", &[]);
    let huge = office.home.path("huge");
    fs::write(&huge, vec![b'A'; 1024 * 1024]).unwrap();
    assert_eq!(office.enrol(&token, &huge).status, 413);
    let user = format!(":{token}");
    let unannounced = office.post("simpleenroll", &huge, &["--user", &user, "--header", "Transfer-Encoding: chunked"]);
    assert_eq!(unannounced.status, 413);
    let (_, request) = office.request("host", &["vvt"]);
    let body = format!("@{}", text(&request));
    let form = office.curl("simpleenroll", &["--data-binary", &body, "--user", &format!(":{token}")]);
    assert_eq!(form.status, 415);
    assert!(form.said().contains("application/pkcs10"));
    assert_eq!(office.curl("simpleenroll", &[]).status, 405);
    assert_eq!(office.curl("serverkeygen", &[]).status, 404);
}

#[test]
fn who_guesses_waits() {
    let office = Office::open();
    let (_, request) = office.request("host", &["vvt"]);
    let statuses: Vec<_> = (0..11).map(|_| office.enrol("guess", &request).status).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 429]);
    let right = office.enrol(&office.token("vvt", &[]), &request);
    assert_eq!(right.status, 429);
    assert!(right.head.contains("retry-after: "), "{}", right.head);
}

#[test]
fn rsa_requests_are_served_too_and_weak_ones_refused() {
    let office = Office::open();
    let (key, request) = (office.home.path("rsa.key"), office.home.path("rsa.pem"));
    for (bits, status) in [("1024", 400), ("2048", 200)] {
        openssl(&[
            "req",
            "-new",
            "-newkey",
            &format!("rsa:{bits}"),
            "-noenc",
            "-keyout",
            text(&key),
            "-subj",
            "/CN=vvt",
            "-out",
            text(&request),
        ]);
        let answer = office.enrol(&office.token("vvt", &[]), &request);
        assert_eq!(answer.status, status, "{bits}: {}", answer.said());
        if status == 200 {
            let certificate = office.certificate(&answer, "rsa");
            assert!(office.home.verify(&certificate, &["-verify_hostname", "vvt"]).status.success());
        }
    }
}

#[test]
fn the_client_enrols_renews_and_otherwise_leaves_things_alone() {
    let office = Office::open();
    let host = workspace();
    let mut client = office.client(host.path().join("host"));
    let token = Secret::new(office.token("huisarts", &["huisarts.localhost"]));
    let first = block_on(client.enrol(Some(&token), false)).unwrap();
    assert!(matches!(first, Outcome::Issued(_)));
    let certificate = host.path().join("host/certs/huisarts/cert.pem");
    assert!(office.home.verify(&certificate, &["-verify_hostname", "huisarts.localhost"]).status.success());

    // The kept root is enough from here on.
    client.trust = None;
    let second = block_on(client.enrol(None, false)).unwrap();
    assert_eq!(second, Outcome::StillValid(first.certificate().clone()));
    let third = block_on(client.enrol(None, true)).unwrap();
    assert!(matches!(&third, Outcome::Issued(new) if new.serial() != first.certificate().serial()));
    let pair = PairStore::new(host.path().join("host/certs")).load("huisarts").unwrap().unwrap();
    assert_eq!(&pair.certificate, third.certificate());

    client.clock = Clock::fixed(OffsetDateTime::now_utc() + Duration::days(61));
    assert!(matches!(block_on(client.enrol(None, false)).unwrap(), Outcome::Issued(_)));
}

#[test]
fn a_revoked_host_comes_back_with_a_new_token() {
    let office = Office::open();
    let host = workspace();
    let client = office.client(host.path().join("host"));
    let token = || Secret::new(office.token("huisarts", &["huisarts.localhost"]));
    let first = block_on(client.enrol(Some(&token()), false)).unwrap();
    office.home.authority.revoke("huisarts", Reason::KeyCompromise).unwrap();
    let refused = block_on(client.enrol(None, true)).unwrap_err();
    assert!(refused.to_string().contains("revoked"), "{refused}");
    let second = block_on(client.enrol(Some(&token()), true)).unwrap();
    assert_ne!(first.certificate().serial(), second.certificate().serial());
}

#[test]
fn a_host_gets_further_names_with_a_new_token() {
    let office = Office::open();
    let host = workspace();
    let mut client = office.client(host.path().join("host"));
    let token = Secret::new(office.token("huisarts", &["huisarts.localhost"]));
    let first = block_on(client.enrol(Some(&token), false)).unwrap();
    client.leaf = client.leaf.with_sans(["www.huisarts"]);
    let kept = block_on(client.enrol(None, false)).unwrap();
    assert_eq!(kept, Outcome::StillValid(first.certificate().clone()));
    let used = block_on(client.enrol(Some(&token), false)).unwrap_err();
    assert!(used.to_string().contains("was used before"), "{used}");
    let token = Secret::new(office.token("huisarts", &["huisarts.localhost", "www.huisarts"]));
    let second = block_on(client.enrol(Some(&token), false)).unwrap();
    assert!(second.certificate().names().contains(&"www.huisarts".parse().unwrap()));
}

#[test]
fn a_damaged_pair_is_replaced_with_a_new_token() {
    let office = Office::open();
    let host = workspace();
    let client = office.client(host.path().join("host"));
    let token = || Secret::new(office.token("huisarts", &["huisarts.localhost"]));
    block_on(client.enrol(Some(&token()), false)).unwrap();
    fs::write(host.path().join("host/certs/huisarts/key.pem"), "garbled").unwrap();
    let failure = block_on(client.enrol(None, false)).unwrap_err();
    assert!(failure.remedy_text().unwrap().contains("--token-file"), "{failure}");
    assert!(matches!(block_on(client.enrol(Some(&token()), false)).unwrap(), Outcome::Issued(_)));
}

#[test]
fn a_host_that_cannot_store_a_certificate_keeps_its_token() {
    let office = Office::open();
    let host = workspace();
    let client = office.client(host.path().join("host"));
    let token = Secret::new(office.token("huisarts", &["huisarts.localhost"]));
    fs::create_dir_all(host.path().join("host/certs/huisarts/mine")).unwrap();
    let failure = block_on(client.enrol(Some(&token), false)).unwrap_err();
    assert!(failure.to_string().contains("did not make"), "{failure}");
    fs::remove_dir_all(host.path().join("host/certs")).unwrap();
    assert!(matches!(block_on(client.enrol(Some(&token), false)).unwrap(), Outcome::Issued(_)));
}

#[test]
fn a_host_that_asks_without_end_is_stopped() {
    let home = Home::new();
    let body = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/certificate_request/ok-der")).unwrap();
    let (token, _) = home.authority.make_token(&LeafProfile::new("vvt"), Duration::HOUR).unwrap();
    let mut present = home.authority.enrol(token.expose(), &body).unwrap();
    for _ in 1..24 {
        present = home.authority.re_enrol(&present, &body).unwrap();
    }
    let refused = home.authority.re_enrol(&present, &body).unwrap_err();
    assert!(refused.to_string().contains("in a day are enough"), "{refused}");
    home.later(Duration::days(2)).re_enrol(&present, &body).unwrap();
}

#[test]
fn the_client_trusts_a_fingerprint_and_nothing_else() {
    let office = Office::open();
    let host = workspace();
    let mut client = office.client(host.path().join("host"));
    let token = Secret::new(office.token("huisarts", &["huisarts.localhost"]));
    client.trust = Some(Trust::Fingerprint([7; 32]));
    let refused = block_on(client.enrol(Some(&token), false)).unwrap_err();
    assert!(std::error::Error::source(&refused).unwrap().to_string().contains("fingerprint"), "{refused:?}");
    client.trust = Some(Trust::File(Home::new().path("ca.pem")));
    assert!(block_on(client.enrol(Some(&token), false)).is_err());
    let fingerprint = office.home.authority.certificate().fingerprint();
    client.trust = Some(Trust::Fingerprint(parse_fingerprint(&fingerprint).unwrap()));
    assert!(matches!(block_on(client.enrol(Some(&token), false)).unwrap(), Outcome::Issued(_)));
}

#[test]
fn the_client_follows_when_the_authority_is_extended() {
    let office = Office::open();
    let host = workspace();
    let mut client = office.client(host.path().join("host"));
    let token = Secret::new(office.token("huisarts", &["huisarts.localhost"]));
    block_on(client.enrol(Some(&token), false)).unwrap();
    client.trust = None;
    let profile = care_federation::pki::AuthorityProfile::new(["thuiszorg"]);
    let (extended, _) = Authority::open_or_create(office.home.directory.path(), &profile).unwrap();
    block_on(client.enrol(None, true)).unwrap();
    assert_eq!(fs::read_to_string(host.path().join("host/ca.pem")).unwrap(), extended.certificate_pem().unwrap());
}

#[test]
fn the_client_explains_what_it_lacks() {
    let office = Office::open();
    let host = workspace();
    let mut client = office.client(host.path().join("host"));
    let no_token = block_on(client.enrol(None, false)).unwrap_err();
    assert!(no_token.remedy_text().unwrap().contains("--token-file"), "{no_token}");
    let refused = block_on(client.enrol(Some(&Secret::new("wrong")), false)).unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
    client.server = client.server.replace("https:", "http:");
    let plain = block_on(client.enrol(None, false)).unwrap_err();
    assert!(plain.to_string().contains("not the address of an enrolment server"), "{plain}");
    client.trust = None;
    client.server = office.url();
    let unknown = block_on(client.enrol(None, false)).unwrap_err();
    assert!(unknown.remedy_text().unwrap().contains("--fingerprint"), "{unknown}");
    client.server = "https://localhost:1".to_owned();
    client.trust = Some(Trust::File(office.home.path("ca.pem")));
    let unreachable = block_on(client.enrol(None, false)).unwrap_err();
    assert!(unreachable.to_string().starts_with("cannot reach https://localhost:1/"), "{unreachable}");
    let own = office.client(office.home.directory.path().to_owned());
    assert!(block_on(own.enrol(None, false)).unwrap_err().to_string().contains("authority's own"));
}

#[test]
fn what_hosts_enrolled_for_is_in_the_record_and_not_renewed_here() {
    let office = Office::open();
    office.enrolled("host", &["vvt"]);
    let record = office.home.authority.record().unwrap();
    assert_eq!(record.certificates.iter().filter(|issued| issued.name == "vvt").count(), 1);
    let renewed = office.home.authority.renew(&[], true).unwrap();
    assert!(matches!(&renewed[..], [(name, Ok(Renewal::Renewed(_)))] if name == "localhost"), "{renewed:?}");
}
