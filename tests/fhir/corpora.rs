//! What fuzzing once began with or found, replayed.

#[path = "../../fuzz/checks/fhir.rs"]
#[expect(unreachable_pub, reason = "fuzz targets, which are programs of their own, share this file")]
mod checks;

use std::path::Path;

fn replay(target: &str, check: impl Fn(&[u8]), disturb: usize) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        let data = std::fs::read(&path).unwrap();
        check(&data);
        // What is cut short or disturbed must do no harm either.
        for end in 0..data.len().min(disturb) {
            check(&data[..end]);
            let mut disturbed = data.clone();
            disturbed[end] ^= 0x20;
            check(&disturbed);
        }
        count += 1;
    }
    assert!(count >= 10, "{target} has a corpus");
}

#[test]
fn bodies() {
    replay("fhir_json", checks::fhir_json, 400);
}

#[test]
fn searches() {
    let searching = checks::Searching::new();
    replay("fhir_search", |data| searching.fhir_search(data), 100);
}
