//! What is left when a process dies at any point, and what the next one makes of it.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use care_federation::pki::{Authority, Creation, LeafProfile, Outcome, PairStore};
use rcgen::PublicKeyData as _;

use super::support::{Home, profile};

fn program(home: &Home, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_federation-ca"));
    command.arg("--dir").arg(home.directory.path()).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn a_killed_renewal_leaves_a_pair_that_matches() {
    let home = Home::new();
    home.authority.issue(&LeafProfile::new("vvt")).unwrap();
    let pairs = Authority::pairs(home.directory.path());
    let started = Instant::now();
    assert!(program(&home, &["renew", "--force"]).status().unwrap().success());
    let whole = started.elapsed();
    let mut serials = Vec::new();
    // From before its first line to after its last.
    for step in 0..40_u32 {
        let mut child = program(&home, &["renew", "--force"]).spawn().unwrap();
        thread::sleep(whole * step / 32);
        child.kill().unwrap();
        child.wait().unwrap();
        let pair = pairs.load("vvt").unwrap().unwrap();
        assert!(pair.matches());
        // Nothing is in use that the authority does not know of.
        assert!(home.authority.record().unwrap().find(pair.certificate.serial()).is_some());
        serials.push(pair.certificate.serial().clone());
    }
    serials.dedup();
    assert!(serials.len() > 1, "no renewal came through in {whole:?}");
    home.authority.renew(&[], true).unwrap()[0].1.as_ref().unwrap();
    let left = fs::read_dir(home.path("certs/.versions")).unwrap().count();
    assert!(left <= 2, "{left} versions are left");
    let unfinished = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".new-");
    assert!(!fs::read_dir(home.directory.path()).unwrap().any(|entry| unfinished(entry.unwrap())));
}

/// A reader opens both files by their paths; where the two do not match it reads again, and then they do.
#[test]
fn a_reader_beside_renewals_soon_sees_a_pair() {
    let home = Home::new();
    home.authority.issue(&LeafProfile::new("vvt")).unwrap();
    let done = AtomicBool::new(false);
    let pairs = Authority::pairs(home.directory.path());
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..30 {
                home.authority.renew(&[], true).unwrap()[0].1.as_ref().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            let matched = (0..10).any(|_| {
                let certificate = fs::read(pairs.certificate_path("vvt"));
                let (Ok(certificate), Ok(key)) = (certificate, fs::read_to_string(pairs.key_path("vvt"))) else {
                    return false;
                };
                let (_, pem) = x509_parser::pem::parse_x509_pem(&certificate).unwrap();
                let key = rcgen::KeyPair::from_pem(&key).unwrap();
                pem.parse_x509().unwrap().public_key().raw == key.subject_public_key_info()
            });
            assert!(matched);
            assert!(pairs.load("vvt").unwrap().unwrap().matches());
        }
    });
}

#[test]
fn what_a_dead_process_left_is_cleared_away() {
    let home = Home::new();
    home.authority.issue(&LeafProfile::new("vvt")).unwrap();
    let versions = home.path("certs/.versions");
    fs::create_dir(versions.join(".new-half")).unwrap();
    fs::write(versions.join(".new-half/key.pem"), "half a key").unwrap();
    symlink("nowhere", versions.join(".new-link")).unwrap();
    fs::write(home.path(".new-abc"), "half a record").unwrap();
    home.authority.renew(&[], true).unwrap()[0].1.as_ref().unwrap();
    assert!(PairStore::new(home.path("certs")).load("vvt").unwrap().unwrap().matches());
    for left in ["certs/.versions/.new-half", "certs/.versions/.new-link", ".new-abc"] {
        assert!(fs::symlink_metadata(home.path(left)).is_err(), "{left}");
    }
}

#[test]
fn a_pair_that_is_gone_or_mixed_is_made_anew() {
    let home = Home::new();
    let issue = || home.authority.issue(&LeafProfile::new("vvt")).unwrap();
    issue();
    fs::remove_dir_all(home.path("certs/.versions")).unwrap();
    assert!(matches!(issue(), Outcome::Issued(_)), "a link to nowhere");
    home.authority.issue(&LeafProfile::new("huisarts")).unwrap();
    fs::copy(home.path("certs/huisarts/key.pem"), home.path("certs/vvt/key.pem")).unwrap();
    let failure = PairStore::new(home.path("certs")).load("vvt").unwrap_err();
    assert!(failure.to_string().ends_with("do not belong together"), "{failure}");
    let outcomes = home.authority.renew_due().unwrap();
    assert!(outcomes[0].1.is_ok() && outcomes[1].1.is_err(), "one that is damaged does not stop the others");
    assert!(matches!(issue(), Outcome::Issued(_)), "a mixture");
    fs::write(home.path("certs/vvt/cert.pem"), "").unwrap();
    assert!(matches!(issue(), Outcome::Issued(_)), "an empty file");
}

#[test]
fn an_init_that_died_after_the_key_is_finished_with_that_key() {
    let home = Home::new();
    let key = fs::read(home.path("ca.key")).unwrap();
    for file in ["ca.pem", "crl.pem", "issued.json"] {
        fs::remove_file(home.path(file)).unwrap();
    }
    let (_, creation) = Authority::open_or_create(home.directory.path(), &profile()).unwrap();
    assert_eq!(creation, Creation::Created);
    assert_eq!(fs::read(home.path("ca.key")).unwrap(), key);
    assert!(home.path("crl.pem").exists());
}

#[test]
fn eight_programs_at_once_renew_one_after_the_other() {
    let home = Home::new();
    home.authority.issue(&LeafProfile::new("vvt")).unwrap();
    let mut children: Vec<_> = (0..8).map(|_| program(&home, &["renew", "--force"]).spawn().unwrap()).collect();
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    assert_eq!(home.authority.record().unwrap().certificates.len(), 9);
    assert!(Authority::pairs(home.directory.path()).load("vvt").unwrap().unwrap().matches());
}
