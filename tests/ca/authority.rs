//! The authority as a library, looked at with openssl.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, thread};

use care_federation::{
    pki::{AUTHORITY_LIFETIME, Authority, AuthorityProfile, Clock, Creation, LeafProfile, Outcome, Reason, Renewal},
    service::failure::Failure,
};
use time::{Duration, OffsetDateTime};

use super::support::{Home, openssl, profile, text, workspace};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_it_issues_verifies_with_openssl() {
    let home = Home::new();
    let leaf = LeafProfile::new("vvt").with_sans(["vvt.localhost", "localhost", "127.0.0.1", "::1"]);
    home.authority.issue(&leaf).unwrap();
    let certificate = home.path("certs/vvt/cert.pem");
    for host in ["vvt", "vvt.localhost", "localhost"] {
        let output = home.verify(&certificate, &["-verify_hostname", host, "-purpose", "sslserver"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(home.verify(&certificate, &["-verify_ip", "::1", "-purpose", "sslclient"]).status.success());
    assert!(!home.verify(&certificate, &["-verify_hostname", "huisarts"]).status.success());
    let crl = home.path("crl.pem");
    assert!(home.verify(&certificate, &["-crl_check", "-CRLfile", text(&crl)]).status.success());
    assert_eq!(
        openssl(&["x509", "-in", text(&certificate), "-noout", "-pubkey"]),
        openssl(&["pkey", "-in", text(&home.path("certs/vvt/key.pem")), "-pubout"])
    );
}

#[test]
fn the_certificates_say_what_they_should() {
    let home = Home::new();
    home.authority.issue(&LeafProfile::new("vvt")).unwrap();
    let ca = openssl(&["x509", "-in", text(&home.path("ca.pem")), "-noout", "-text"]);
    for line in [
        "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0",
        "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign",
        "X509v3 Name Constraints: critical\n                Permitted:\n                  DNS:vvt\n",
        "DNS:localhost\n                  IP:127.0.0.0/255.0.0.0\n",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
        "ecdsa-with-SHA256",
    ] {
        assert!(ca.contains(line), "{line} is not in {ca}");
    }
    let leaf = openssl(&["x509", "-in", text(&home.path("certs/vvt/cert.pem")), "-noout", "-text"]);
    for line in [
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Subject Alternative Name: \n                DNS:vvt\n",
        "Subject: CN = vvt\n",
        "CA:FALSE",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(leaf.contains(line), "{line} is not in {leaf}");
    }
    assert!(!leaf.contains("CRL Distribution"));
}

#[test]
fn files_are_private_where_they_must_be() {
    let home = Home::new();
    home.authority.issue(&LeafProfile::new("vvt")).unwrap();
    for (file, expected) in [
        ("ca.key", 0o600),
        ("ca.pem", 0o644),
        ("crl.pem", 0o644),
        ("issued.json", 0o600),
        ("certs/vvt/cert.pem", 0o644),
        ("certs/vvt/key.pem", 0o600),
    ] {
        assert_eq!(mode(&home.path(file)), expected, "{file}");
    }
}

#[test]
fn a_second_init_keeps_the_authority_and_a_new_name_extends_it() {
    let home = Home::new();
    home.authority.issue(&LeafProfile::new("vvt")).unwrap();
    let before = fs::read(home.path("ca.pem")).unwrap();
    let again = Authority::open_or_create(home.directory.path(), &AuthorityProfile::new(["huisarts"])).unwrap();
    assert_eq!(again.1, Creation::Kept);
    assert_eq!(fs::read(home.path("ca.pem")).unwrap(), before);

    let wider = Authority::open_or_create(home.directory.path(), &AuthorityProfile::new(["thuiszorg"])).unwrap();
    assert_eq!(wider.1, Creation::Extended);
    assert_eq!(wider.0.permitted().roots(), ["vvt", "huisarts", "apotheek", "localhost", "thuiszorg"]);
    assert!(home.verify(&home.path("certs/vvt/cert.pem"), &[]).status.success());
    assert!(matches!(wider.0.issue(&LeafProfile::new("vvt")).unwrap(), Outcome::StillValid(_)));
    wider.0.issue(&LeafProfile::new("thuiszorg")).unwrap();
    assert!(home.verify(&home.path("certs/thuiszorg/cert.pem"), &[]).status.success());
}

#[test]
fn a_valid_certificate_is_left_alone_and_more_names_replace_it() {
    let home = Home::new();
    let first = home.authority.issue(&LeafProfile::new("vvt").with_sans(["localhost"])).unwrap();
    let Outcome::Issued(first) = first else { panic!("{first:?}") };
    assert_eq!(home.authority.issue(&LeafProfile::new("vvt")).unwrap(), Outcome::StillValid(first));
    let more = home.authority.issue(&LeafProfile::new("vvt").with_sans(["www.vvt"])).unwrap();
    assert!(matches!(more, Outcome::Issued(_)));
}

#[test]
fn it_renews_at_two_thirds_of_life_and_not_before() {
    let home = Home::new();
    home.authority.issue(&LeafProfile::new("vvt").with_sans(["vvt.localhost"])).unwrap();
    let early = home.later(Duration::days(59)).renew_due().unwrap();
    assert!(matches!(early[..], [(_, Ok(Renewal::NotDue(_)))]), "{early:?}");
    let due = home.later(Duration::days(60)).renew_due().unwrap();
    let [(name, Ok(Renewal::Renewed(certificate)))] = &due[..] else { panic!("{due:?}") };
    assert_eq!(name, "vvt");
    assert_eq!(certificate.names().len(), 2);
    assert_eq!(certificate.not_after() - certificate.not_before(), Duration::days(90) - Duration::SECOND);
}

#[test]
fn a_revoked_certificate_is_on_the_list_and_not_renewed() {
    let home = Home::new();
    home.authority.issue(&LeafProfile::new("vvt")).unwrap();
    let revoked = home.authority.revoke("vvt", Reason::KeyCompromise).unwrap();
    assert_eq!(revoked.len(), 1);
    assert!(home.authority.revoke("VVT", Reason::KeyCompromise).unwrap().is_empty());
    let crl = home.path("crl.pem");
    let certificate = home.path("certs/vvt/cert.pem");
    let output = home.verify(&certificate, &["-crl_check", "-CRLfile", text(&crl)]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("certificate revoked"));
    assert!(openssl(&["crl", "-in", text(&crl), "-noout", "-text"]).contains("Key Compromise"));
    let outcome = home.later(Duration::days(89)).renew(&[], true).unwrap();
    assert!(matches!(outcome[..], [(_, Ok(Renewal::Revoked(_)))]));
    assert!(matches!(home.authority.issue(&LeafProfile::new("vvt")).unwrap(), Outcome::Issued(_)));
    // The list of day 89 does not count today, so today's renewal signs another.
    home.authority.renew_due().unwrap();
    assert!(home.verify(&certificate, &["-crl_check", "-CRLfile", text(&crl)]).status.success());
}

#[test]
fn a_revoked_certificate_stays_on_one_list_beyond_its_life() {
    let home = Home::new();
    home.authority.issue(&LeafProfile::new("vvt")).unwrap();
    let serial = home.authority.revoke("vvt", Reason::Superseded).unwrap().remove(0).serial.to_string();
    let listed = || openssl(&["crl", "-in", text(&home.path("crl.pem")), "-noout", "-text"]).to_lowercase();
    home.later(Duration::days(93)).sign_crl().unwrap();
    assert!(listed().contains(&serial));
    home.later(Duration::days(100)).sign_crl().unwrap();
    assert!(!listed().contains(&serial));
}

#[test]
fn two_at_once_make_one_authority_and_one_certificate() {
    let directory = workspace();
    let issue = || {
        let (authority, creation) = Authority::open_or_create(directory.path(), &profile()).unwrap();
        (creation, authority.issue(&LeafProfile::new("vvt")).unwrap())
    };
    let outcomes: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..8).map(|_| scope.spawn(issue)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|(creation, _)| *creation == Creation::Created).count(), 1);
    assert_eq!(outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Issued(_))).count(), 1);
}

#[test]
fn names_outside_the_constraints_are_refused() {
    let home = Home::new();
    for leaf in [LeafProfile::new("evil"), LeafProfile::new("vvt").with_sans(["10.0.0.1"])] {
        let failure = home.authority.issue(&leaf).unwrap_err();
        assert!(failure.to_string().contains("confined to vvt, huisarts, apotheek"), "{failure}");
    }
}

#[test]
fn a_wrong_clock_is_named() {
    let now = OffsetDateTime::now_utc();
    let home = Home::at(now);
    let before = home.later(-Duration::days(400)).issue(&LeafProfile::new("vvt")).unwrap_err();
    assert!(before.to_string().contains("the clock says"), "{before}");
    assert!(before.remedy_text().unwrap().contains("clock"));
    let after = home.later(Duration::days(6 * 365)).issue(&LeafProfile::new("vvt")).unwrap_err();
    assert!(after.to_string().contains("expired"), "{after}");
}

#[test]
fn an_expired_authority_is_renewed_with_the_same_key() {
    let now = OffsetDateTime::now_utc();
    let home = Home::at(now - Duration::days(1826) + Duration::days(30));
    let leaf = home.authority.clone();
    assert!(leaf.certificate().not_after() > now);
    let authority = Authority::open_at(home.directory.path(), Clock::fixed(now)).unwrap();
    authority.issue(&LeafProfile::new("vvt")).unwrap();
    let pair = Authority::pairs(home.directory.path()).load("vvt").unwrap().unwrap();
    assert_eq!(pair.certificate.not_after(), leaf.certificate().not_after(), "a leaf ends with its CA");
    authority.renew_authority().unwrap();
    assert!(home.verify(&home.path("certs/vvt/cert.pem"), &[]).status.success());
}

#[test]
fn a_life_that_the_end_of_the_authority_cut_short_is_whole_in_the_next_one() {
    let now = OffsetDateTime::now_utc();
    let home = Home::at(now - AUTHORITY_LIFETIME + Duration::days(9));
    let authority = Authority::open_at(home.directory.path(), Clock::fixed(now)).unwrap();
    let life = |outcome: Vec<(String, Result<Renewal, Failure>)>| match &outcome[..] {
        [(_, Ok(Renewal::Renewed(new)))] => new.not_after() - new.not_before() + Duration::SECOND,
        other => panic!("{other:?}"),
    };
    authority.issue(&LeafProfile { lifetime: Duration::days(30), ..LeafProfile::new("vvt") }).unwrap();
    let again = home.later(AUTHORITY_LIFETIME - Duration::days(3)).renew_due().unwrap();
    assert!(life(again) < Duration::days(4));
    authority.renew_authority().unwrap();
    assert_eq!(life(authority.renew(&[], true).unwrap()), Duration::days(30));
    assert_eq!(life(authority.renew(&[], true).unwrap()), Duration::days(30));
}

#[test]
fn a_certificate_of_the_authority_that_is_lost_is_not_made_up() {
    let home = Home::new();
    home.authority.issue(&LeafProfile::new("vvt")).unwrap();
    fs::remove_file(home.path("ca.pem")).unwrap();
    let failure = Authority::open_or_create(home.directory.path(), &profile()).unwrap_err();
    assert!(failure.to_string().ends_with("ca.pem is gone, and certificates were issued by it"), "{failure}");
}

#[test]
fn what_an_init_that_died_was_not_told_counts_too() {
    let home = Home::new();
    fs::remove_file(home.path("ca.pem")).unwrap();
    let with_list = AuthorityProfile { crl_url: Some("http://ca.vvt/crl.pem".to_owned()), ..profile() };
    Authority::open_or_create(home.directory.path(), &with_list).unwrap();
    assert_eq!(home.later(Duration::ZERO).record().unwrap().crl_url, with_list.crl_url);
}

#[test]
fn no_revocation_list_has_a_number_below_one_before_it() {
    let home = Home::new();
    let number = || openssl(&["crl", "-in", text(&home.path("crl.pem")), "-noout", "-crlnumber"]);
    let backup = fs::read(home.path("issued.json")).unwrap();
    home.authority.sign_crl().unwrap();
    home.authority.sign_crl().unwrap();
    assert_eq!(number().trim(), "crlNumber=0x03");
    fs::write(home.path("issued.json"), backup).unwrap();
    home.authority.sign_crl().unwrap();
    assert_eq!(number().trim(), "crlNumber=0x04");
}

#[test]
fn what_ended_long_ago_is_forgotten() {
    let home = Home::new();
    let names = ["vvt", "huisarts"];
    home.authority.issue(&LeafProfile::new(names[0])).unwrap();
    home.later(Duration::days(400)).issue(&LeafProfile::new(names[1])).unwrap();
    assert_eq!(home.authority.record().unwrap().certificates.len(), 2);
    home.later(Duration::days(460)).renew(&names.map(str::to_owned), true).unwrap();
    let left: Vec<_> = home.authority.record().unwrap().certificates.into_iter().map(|one| one.name).collect();
    assert_eq!(left, ["huisarts", "vvt", "huisarts"]);
}
