use super::*;
use std::os::unix::fs::PermissionsExt as _;

/// The shape of the original's file, with other tokens: a space in the id, comments, no `receive_ephemeral`.
const ORIGINAL: &str = r##"id: "FHIR Bridge"
# url: "http://127.0.0.1:1234"
url: "http://host.docker.internal:1237"
as_token: "an-as-token"
hs_token: "an-hs-token"
sender_localpart: "_fhir" # Will result in @_fhir:example.org
namespaces:
  users:
    - exclusive: true
      regex: "@_fhir_bridge_.*"
  aliases:
    - exclusive: false
      regex: "#_fhir_bridge_.*"
  rooms:
    - exclusive: false
      regex: "!*"
"##;

#[test]
fn the_originals_file_is_read_as_it_stands() {
    let registration = Registration::parse(ORIGINAL, "as_config.yaml").unwrap();
    assert_eq!(registration.id, "FHIR Bridge");
    assert_eq!(registration.url.as_deref(), Some("http://host.docker.internal:1237"));
    assert_eq!(registration.hs_token.expose(), "an-hs-token");
    assert!(registration.rate_limited && !registration.receive_ephemeral);
    assert!(registration.namespaces.users("@_fhir_bridge_patient-1:vvt"));
    assert!(!registration.namespaces.users("@someone:vvt"));
    assert!(registration.namespaces.rooms("!anything"));
    assert_eq!(registration.remarks(ORIGINAL).len(), 3);
}

#[test]
fn a_made_registration_survives_writing_and_reading() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registration.yaml");
    let (made, origin) = Registration::read_or_make(&path, &Blueprint::default()).unwrap();
    assert_eq!(origin, Origin::Made);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (read, origin) = Registration::read_or_make(&path, &Blueprint::default()).unwrap();
    assert_eq!((&read, origin), (&made, Origin::Read));
    assert!(read.receive_ephemeral && !read.rate_limited);
    assert_eq!(read.protocols, ["fhir"]);
    assert!(read.remarks(&std::fs::read_to_string(&path).unwrap()).is_empty());
    assert_ne!(read.with_fresh_tokens().unwrap().as_token, read.as_token);
}

#[test]
fn a_new_address_goes_into_a_registration_that_is_there_and_its_tokens_stay() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registration.yaml");
    let at = |url: &str| {
        Registration::read_or_make_at(&path, &Blueprint { url: url.to_owned(), ..Blueprint::default() }).unwrap()
    };
    let (made, origin) = at("http://127.0.0.1:1234/");
    assert_eq!(origin, Origin::Made);
    assert_eq!(at("http://127.0.0.1:1234/"), (made.clone(), Origin::Read));
    let (changed, origin) = at("http://10.0.0.5:2234");
    assert_eq!(origin, Origin::Changed);
    assert_eq!(changed, Registration { url: Some("http://10.0.0.5:2234".to_owned()), ..made });
    assert_eq!(Registration::read(&path).unwrap(), changed);
    let nowhere = Blueprint { url: "ftp://10.0.0.5".to_owned(), ..Blueprint::default() };
    Registration::read_or_make_at(&path, &nowhere).unwrap_err();
    assert_eq!(Registration::read(&path).unwrap(), changed);
}

#[test]
fn it_controls_its_bot_and_its_ghosts_on_its_own_server_only() {
    let registration = Registration::generate(&Blueprint::default()).unwrap();
    let server = ruma::server_name!("vvt");
    for (user, expected) in [
        ("@_fhir:vvt", true),
        ("@_fhir_bridge_patient-1:vvt", true),
        ("@_fhir_bridge_patient-1:huisarts", false),
        ("@_fhirx:vvt", false),
        ("@jan:vvt", false),
    ] {
        assert_eq!(registration.controls(&UserId::parse(user).unwrap(), server), expected, "{user}");
    }
    assert_eq!(registration.bot(server).unwrap(), "@_fhir:vvt");
}

#[test]
fn mistakes_are_named_with_file_line_and_key() {
    for (right, wrong, message) in [
        (
            "exclusive: true",
            "exclusive: \"yes\"",
            "f:9: namespaces.users[0].exclusive: invalid type: string \"yes\", expected a boolean",
        ),
        (
            "\"@_fhir_bridge_.*\"",
            "\"@(\"",
            "f:10: namespaces.users[0].regex: \"@(\" is not a regular expression: unclosed group",
        ),
        ("\"an-as-token\"", "12345", "f:4: as_token: this is a number, but a text is expected: put it in quotes"),
        ("\"an-as-token\"", "\"two words\"", "f:4: as_token: a token must have"),
        ("\"_fhir\"", "\"@_fhir:vvt\"", "f:6: sender_localpart: \"@_fhir:vvt\" is not a localpart"),
        ("http://host.docker.internal:1237", "host:1237", "f:3: url: \"host:1237\" is neither http: nor https:"),
        ("an-as-token", "an-hs-token", "f: as_token and hs_token are the same"),
        ("    - exclusive: true\n", "    -\n", "f:10: namespaces.users[0]: missing field `exclusive`"),
        ("id: \"FHIR Bridge\"\n", "", "f:2: missing field `id`"),
        ("hs_token: ", "hs_token ", "f:6: "),
    ] {
        assert!(ORIGINAL.contains(right), "{right}");
        let failure = Registration::parse(&ORIGINAL.replacen(right, wrong, 1), "f").unwrap_err();
        assert!(failure.to_string().starts_with(message), "{failure}\n{message}");
    }
}

#[test]
fn a_missing_or_empty_url_is_allowed_and_remarked() {
    for replacement in ["url:", "url: null", ""] {
        let text = ORIGINAL.replace("url: \"http://host.docker.internal:1237\"", replacement);
        let registration = Registration::parse(&text, "f").unwrap();
        assert_eq!(registration.url, None);
        assert!(registration.remarks(&text).iter().any(|remark| remark.starts_with("url is not set")));
    }
}

#[test]
fn a_file_that_everybody_can_read_is_remarked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("as_config.yaml");
    for (mode, remarked) in [(0o600, false), (0o640, false), (0o644, true)] {
        crate::service::files::write(&path, ORIGINAL.as_bytes(), mode).unwrap();
        let remarks = Registration::read(&path).unwrap().remarks_on(&path).unwrap();
        assert_eq!(remarks.iter().any(|remark| remark.contains("everybody")), remarked, "{mode:o}: {remarks:?}");
    }
}

#[test]
fn an_unknown_key_is_remarked() {
    let text = format!("{ORIGINAL}recieve_ephemeral: true\n");
    let remarks = Registration::parse(&text, "f").unwrap().remarks(&text);
    assert!(remarks.iter().any(|remark| remark.starts_with("recieve_ephemeral is not a key")), "{remarks:?}");
}

/// What the fuzzer begins with, and what it found: files named by what must become of them.
#[test]
fn the_corpus_of_the_fuzzer_is_understood_or_refused() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/registration");
    let mut tried = 0;
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let read = Registration::read(&path);
        assert_eq!(read.is_ok(), name.starts_with("ok-"), "{name}: {read:?}");
        match read {
            Ok(registration) => {
                let again = Registration::parse(&registration.to_yaml().unwrap(), "again").unwrap();
                assert_eq!(again, registration, "{name}");
            }
            Err(failure) => assert!(!failure.to_string().contains("an-hs-token"), "{name}: {failure}"),
        }
        tried += 1;
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn a_registration_shows_no_token() {
    let text = format!("{:?}", Registration::parse(ORIGINAL, "f").unwrap());
    assert!(!text.contains("an-as-token") && !text.contains("an-hs-token"), "{text}");
}

#[test]
fn a_pattern_matches_from_the_beginning_only() {
    let pattern = Pattern::new("a|b").unwrap();
    assert!(pattern.matches("bc") && !pattern.matches("cb"));
    assert!(Pattern::new("a)(b").is_err());
    assert!(Pattern::new("(?:a{1000}){1000}{1000}").is_err());
}
