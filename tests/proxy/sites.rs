//! Static sites: Element Web as browsers meet it, and what one client may take of them.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, SystemTime},
};

use care_federation::proxy::settings::Settings;

use crate::support::{Network, Response, ask, connect, read_rest, wait_for};

/// A network that serves a directory, and where.
fn serving(root: &Path, config: &str, change: impl FnOnce(&mut Settings)) -> (Network, SocketAddr) {
    let network = Network::with(
        |settings| {
            let site = format!("listen = [\"127.0.0.1:0\"]\nroot = {root:?}\n{config}");
            settings.static_sites.insert("element".to_owned(), toml::from_str(&site).unwrap());
            change(settings);
        },
        |_, _| false,
    );
    let address = network.proxy.addresses().sites["element"][0];
    (network, address)
}

fn get(address: SocketAddr, path: &str, fields: &str) -> Response {
    ask(&mut connect(address), format!("GET {path} HTTP/1.1\r\nHost: localhost:8003\r\n{fields}\r\n"))
}

/// More than the kernel takes for a client that reads nothing.
const LARGE: u64 = 64 << 20;

/// A client that has read no more than the beginning of a large file.
fn begin(address: SocketAddr, root: &Path) -> TcpStream {
    File::create(root.join("large")).unwrap().set_len(LARGE).unwrap();
    let mut stream = connect(address);
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 15]).unwrap();
    stream
}

#[test]
fn element_is_served_with_the_headers_it_asks_for() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("bundles")).unwrap();
    fs::write(root.path().join("index.html"), "<html>").unwrap();
    fs::write(root.path().join("config.json"), "{}").unwrap();
    fs::write(root.path().join("bundles/a.js"), "code").unwrap();
    let config = "[config]\nbrand = \"Zorg\"\n[config.default_server_config.\"m.homeserver\"]\n\
                  base_url = \"http://vvt.localhost:8008\"";
    let (_network, address) = serving(root.path(), config, |_| {});
    for (path, status, cache) in [
        ("/", 200, "no-cache"),
        ("/index.html", 200, "no-cache"),
        ("/config.json", 200, "no-cache"),
        ("/config.localhost.json", 404, "no-cache"),
        ("/bundles/a.js", 200, "public, max-age=31536000, immutable"),
        ("/bundles/b.js", 404, "no-cache"),
        ("/../../etc/passwd", 404, "no-cache"),
        ("/%2e%2e/%2e%2e/etc/passwd", 404, "no-cache"),
    ] {
        let response = get(address, path, "");
        assert_eq!((response.status, response.fields("cache-control")), (status, vec![cache]), "{path}");
        assert_eq!(response.fields("content-security-policy"), ["frame-ancestors 'self'"]);
        assert_eq!(response.fields("x-frame-options"), ["SAMEORIGIN"]);
        assert_eq!(response.fields("x-content-type-options"), ["nosniff"]);
    }
    let config: serde_json::Value = serde_json::from_slice(&get(address, "/config.json", "").body).unwrap();
    assert_eq!(config["default_server_config"]["m.homeserver"]["base_url"], "http://vvt.localhost:8008");
    assert_eq!(get(address, "/", "").text(), "<html>");
}

#[test]
fn a_file_is_had_whole_in_parts_or_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a.txt"), "0123456789").unwrap();
    let (_network, address) = serving(root.path(), "", |_| {});
    let whole = get(address, "/a.txt", "");
    let since = format!("If-Modified-Since: {}\r\n", whole.fields("last-modified")[0]);
    assert_eq!(get(address, "/a.txt", &since).status, 304);
    let part = get(address, "/a.txt", "Range: bytes=2-4\r\n");
    assert_eq!((part.status, part.text()), (206, "234"));
    assert_eq!(get(address, "/a.txt", "Range: bytes=20-\r\n").status, 416);
    let head = ask(&mut connect(address), "HEAD /a.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((head.status, head.fields("content-length")), (200, vec!["10"]));
    assert_eq!(ask(&mut connect(address), "POST /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").status, 405);
}

/// The Nix store gives each file the same time: by that, an upgraded client would never be loaded.
#[test]
fn a_time_that_says_nothing_is_not_told_and_not_believed() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("index.html"), "new").unwrap();
    let file = File::options().write(true).open(root.path().join("index.html")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    let (_network, address) = serving(root.path(), "", |_| {});
    let response = get(address, "/", "If-Modified-Since: Thu, 01 Jan 1970 00:00:01 GMT\r\n");
    assert_eq!((response.status, response.text()), (200, "new"));
    assert!(response.fields("last-modified").is_empty());
}

#[test]
fn sites_are_bounded_as_homeservers_are() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("index.html"), "<html>").unwrap();
    let (network, address) = serving(root.path(), "", |settings| settings.limits.connections_per_address = 1);
    let mut first = connect(address);
    assert_eq!(ask(&mut first, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").status, 200);
    let refused = get(address, "/", "");
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "M_LIMIT_EXCEEDED"));
    network.wait_for_metric("federation_proxy_connections_refused_total 1");
    drop(first);
    wait_for("a free place", || get(address, "/", "").status == 200);

    let (_network, address) = serving(root.path(), "", |settings| settings.limits.requests = 1);
    let _reading = begin(address, root.path());
    let refused = get(address, "/", "");
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "M_LIMIT_EXCEEDED"));
    assert_eq!(refused.fields("retry-after"), ["1"]);
}

#[test]
fn who_does_not_read_gives_the_places_back() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("index.html"), "<html>").unwrap();
    let (network, address) = serving(root.path(), "", |settings| {
        settings.limits.requests = 1;
        settings.limits.idle_time = "200ms".parse().unwrap();
    });
    let mut stalled = begin(address, root.path());
    network.wait_for_metric("federation_proxy_requests_open 0");
    assert_eq!(get(address, "/", "").status, 200);
    assert!(read_rest(&mut stalled).len() < LARGE as usize);
    network.wait_for_metric("federation_proxy_connections_open 0");
}

#[test]
fn who_sends_no_more_is_cut() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a.txt"), "text").unwrap();
    let (network, address) = serving(root.path(), "", |settings| settings.limits.idle_time = "200ms".parse().unwrap());
    for request in [
        "POST /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
        "GET /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc",
        "GET /a.txt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /a.txt HTTP/1.1\r\nHo",
        "GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n",
        "",
    ] {
        let mut stream = connect(address);
        stream.write_all(request.as_bytes()).unwrap();
        read_rest(&mut stream);
    }
    network.wait_for_metric("federation_proxy_connections_open 0");
}
