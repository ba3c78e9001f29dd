//! What fuzzing once began with or found, replayed.

#[path = "../../fuzz/checks/proxy.rs"]
#[expect(unreachable_pub, reason = "fuzz targets, which are programs of their own, share this file")]
mod checks;

use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        let data = std::fs::read(&path).unwrap();
        check(&data);
        // What is cut short or disturbed must do no harm either.
        for end in 0..data.len().min(600) {
            check(&data[..end]);
            let mut disturbed = data.clone();
            disturbed[end] ^= 0x20;
            check(&disturbed);
        }
        count += 1;
    }
    assert!(count >= 3, "{target} has a corpus");
}

#[test]
fn x_matrix_headers() {
    replay("x_matrix", checks::x_matrix);
}

#[test]
fn request_heads() {
    replay("request_head", checks::request_head);
}

#[test]
fn hosts_and_paths() {
    replay("host_routing", checks::host_routing);
}

#[test]
fn client_hellos() {
    replay("client_hello_sni", checks::client_hello_sni);
}

#[test]
fn settings_files() {
    replay("proxy_settings", checks::proxy_settings);
}
