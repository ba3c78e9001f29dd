//! A network to test in: a CA, homeservers that answer as they are told, a proxy in this process, and clients.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use care_federation::{
    proxy::{
        Proxy,
        settings::{Server, Settings},
    },
    service::listeners::Inherited,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring, pki_types::ServerName};

/// How long a test waits for what must come. Nothing waits this long unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy with its homeservers. The servers are `vvt` and `huisarts`.
pub(crate) struct Network {
    pub(crate) proxy: Proxy,
    pub(crate) authority: Authority,
    pub(crate) vvt: Backend,
    pub(crate) huisarts: Backend,
    pub(crate) directory: tempfile::TempDir,
}

/// The CA of the network.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a homeserver received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    /// The head as it came, without the last empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Which connection of the homeserver it came on.
    pub(crate) connection: usize,
}

/// A homeserver that answers as it is told.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

// === impl Network ===

impl Network {
    /// A network whose homeservers say hello.
    pub(crate) fn new() -> Self {
        Self::with(|_| {}, |_, stream| reply(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
    }

    /// A network with changed settings, whose homeserver vvt answers as it is told.
    pub(crate) fn with(
        change: impl FnOnce(&mut Settings),
        answer: impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (vvt, huisarts) = (
            Backend::new(answer),
            Backend::new(|_, stream| reply(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhuisarts")),
        );
        let mut settings = Settings { workers: Some(2), ..Settings::default() };
        settings.log.access = false;
        settings.listen.tls = vec!["127.0.0.1:0".parse().unwrap()];
        settings.listen.plain = vec!["[::]:0".parse().unwrap()];
        settings.listen.egress = vec!["127.0.0.1:0".parse().unwrap()];
        settings.listen.admin = vec!["127.0.0.1:0".parse().unwrap()];
        for (name, backend) in [("vvt", &vvt), ("huisarts", &huisarts)] {
            let pair = authority.issue(directory.path(), name, &[name, &format!("{name}.localhost")]);
            let mut server = Server::new(format!("http://{}", backend.address).parse().unwrap());
            (server.certificate, server.key) = (Some(pair.0), Some(pair.1));
            server.hosts = vec![format!("{name}.localhost")];
            server.federation = Some(format!("{name}:8448").parse().unwrap());
            server.client = Some(format!("https://{name}:8448"));
            settings.servers.insert(name.to_owned(), server);
        }
        settings.limits.drain_time = "10s".parse().unwrap();
        change(&mut settings);
        let proxy = Proxy::start(settings, &mut Inherited::take()).unwrap();
        Self { proxy, authority, vvt, huisarts, directory }
    }

    pub(crate) fn tls(&self) -> SocketAddr {
        self.proxy.addresses().tls[0]
    }

    pub(crate) fn plain(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.proxy.addresses().plain[0].port()))
    }

    pub(crate) fn egress(&self) -> SocketAddr {
        self.proxy.addresses().egress[0]
    }

    /// Sends bytes to the plain port and reads one response.
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> Response {
        ask(&mut connect(self.plain()), request)
    }

    /// A GET to vvt on the plain port.
    pub(crate) fn get(&self, path: &str) -> Response {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: vvt\r\n\r\n"))
    }

    /// A TLS connection that names a server, or none.
    pub(crate) fn connect_tls(&self, sni: Option<&str>) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut config = (*self.authority.client(&[b"http/1.1"])).clone();
        config.enable_sni = sni.is_some();
        let name = ServerName::try_from(sni.unwrap_or("huisarts").to_owned()).unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = connect(self.tls());
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(connection, socket))
    }

    /// The metrics as text.
    pub(crate) fn metrics(&self) -> String {
        let request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        String::from_utf8(ask(&mut connect(self.proxy.addresses().admin[0]), request).body).unwrap()
    }

    /// Waits until the metrics hold a text.
    pub(crate) fn wait_for_metric(&self, text: &str) {
        wait_for(text, || self.metrics().contains(text));
    }
}

/// Waits until something is so; fails when it does not become so.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

// === impl Authority ===

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// A certificate and its key, PEM, for names.
    pub(crate) fn pair(&self, names: &[&str]) -> (String, String) {
        self.pair_with(names, |_| {})
    }

    /// A changed certificate and its key.
    pub(crate) fn pair_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Writes a pair to `DIRECTORY/NAME/`.
    pub(crate) fn issue(&self, directory: &Path, name: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.pair(names);
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let files = (directory.join("cert.pem"), directory.join("key.pem"));
        std::fs::write(&files.0, certificate).unwrap();
        std::fs::write(&files.1, key).unwrap();
        files
    }

    /// A client that trusts this CA alone.
    pub(crate) fn client(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

// === impl Backend ===

impl Backend {
    /// A homeserver. `answer` writes the response and says whether the connection goes on.
    pub(crate) fn new(answer: impl Fn(&Received, &mut TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (all, answer) = (Arc::clone(&received), Arc::new(answer));
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().flatten().enumerate() {
                let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                thread::spawn(move || {
                    let mut stream = stream;
                    stream.set_nodelay(true).unwrap();
                    while let Some(received) = receive(&mut stream, connection) {
                        all.lock().unwrap().push(received.clone());
                        if !answer(&received, &mut stream) {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, received }
    }

    /// All requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The latest request.
    pub(crate) fn last(&self) -> Received {
        self.received().pop().expect("a request")
    }
}

// === impl Received ===

impl Received {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The values of all fields of a name.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        fields(&self.head, name)
    }
}

// === impl Response ===

impl Response {
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        fields(&self.head, name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The Matrix error code of the body.
    pub(crate) fn error_code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert!(!body["error"].as_str().unwrap().is_empty());
        body["errcode"].as_str().unwrap().to_owned()
    }
}

fn fields<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let named = |line: &&'a str| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
    head.lines().skip(1).filter(named).map(|line| line.split_once(':').unwrap().1.trim()).collect()
}

/// Writes a whole response; the connection goes on.
pub(crate) fn reply(stream: &mut TcpStream, response: &[u8]) -> bool {
    stream.write_all(response).is_ok()
}

/// A connection that gives up when nothing comes.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends a request and reads one response.
pub(crate) fn ask<S: Read + Write>(stream: &mut S, request: impl AsRef<[u8]>) -> Response {
    let to_head = request.as_ref().starts_with(b"HEAD ");
    stream.write_all(request.as_ref()).unwrap();
    stream.flush().unwrap();
    read_response(stream, to_head)
}

/// Reads one response, with its body.
pub(crate) fn read_response<S: Read>(stream: &mut S, to_head: bool) -> Response {
    let head = read_head(stream).expect("a response");
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    let bodiless = to_head || matches!(status, 100..=199 | 204 | 304);
    let body = if bodiless { Vec::new() } else { read_body(stream, &head, true) };
    Response { status, head, body }
}

/// Reads up to the end of the stream.
pub(crate) fn read_rest<S: Read>(stream: &mut S) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    rest
}

fn receive(stream: &mut TcpStream, connection: usize) -> Option<Received> {
    let head = read_head(stream)?;
    let body = read_body(stream, &head, false);
    Some(Received { head, body, connection })
}

/// Reads to the empty line, byte by byte, so that nothing after it is taken.
fn read_head<S: Read>(stream: &mut S) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    head.truncate(head.len() - 4);
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Reads a body; chunks are put together, with the trailer section after them.
fn read_body<S: Read>(stream: &mut S, head: &str, until_close: bool) -> Vec<u8> {
    let mut body = Vec::new();
    if let Some(length) = fields(head, "content-length").first() {
        body.resize(length.parse().unwrap(), 0);
        if stream.read_exact(&mut body).is_err() {
            body.clear();
        }
    } else if !fields(head, "transfer-encoding").is_empty() {
        while let Some(line) = read_line(stream) {
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            let mut chunk = vec![0; size];
            if stream.read_exact(&mut chunk).is_err() {
                break;
            }
            body.extend_from_slice(&chunk);
            if size == 0 {
                while let Some(line) = read_line(stream).filter(|line| !line.is_empty()) {
                    body.extend_from_slice(line.as_bytes());
                }
                break;
            }
            read_line(stream);
        }
    } else if until_close {
        body = read_rest(stream);
    }
    body
}

fn read_line<S: Read>(stream: &mut S) -> Option<String> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => line.push(byte[0]),
            _ => return None,
        }
    }
    line.truncate(line.len() - 2);
    Some(String::from_utf8(line).unwrap())
}
