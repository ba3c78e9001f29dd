//! Who somebody is on the other side: Matrix ids in `telecom`, names, and `custom.user_mappings`.

use serde_json::{Map, Value, json};

use super::message;
use crate::bridge::identity::{Instance, Kind};
use crate::fhir::resources::{ContactPoint, HumanName, Identifier, Organization, Patient, Resource};

/// Purpose of a contact point whose value is a Matrix user id.
pub const MESSAGING: &str = "matrix-messaging";
/// Purpose of a contact point whose value is a homeserver's name.
pub const HOMESERVER: &str = "matrix-homeserver";
/// System of the number of a professional's card.
pub const UZI: &str = "http://fhir.nl/fhir/NamingSystem/uzi-nr-pers";
/// System of the number of a care organisation.
pub const URA: &str = "http://fhir.nl/fhir/NamingSystem/ura";
/// System of a pseudonym for one receiver.
pub const PSEUDONYM: &str = "http://fhir.nl/fhir/NamingSystem/pseudo-bsn";

/// The state event type that tells who a member is in FHIR.
pub const USER_MAPPINGS: &str = "custom.user_mappings";
/// The key in an invitation that tells whom a conversation is about.
pub const INVITE_CONTEXT: &str = "nl-ta-chat.invite.context";

/// What a person resource says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// The real Matrix user, if the resource names one.
    pub matrix_id: Option<String>,
    /// What people call them.
    pub name: Option<String>,
    /// The number of a professional's card.
    pub uzi: Option<String>,
    /// The number of the organisation: their own, or the one that they work for.
    pub ura: Option<String>,
}

/// Longest display name, in characters; Synapse refuses one of more than 256.
const LONGEST_NAME: usize = 200;

/// A name as others see it: without what turns the reading of the names beside it or breaks the line, and cut where it is
/// too long for a homeserver. `None` where nothing is left.
pub fn display_name(name: &str) -> Option<String> {
    let turns = |letter: char| matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown: String = name
        .chars()
        .filter(|letter| !turns(*letter))
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    let words: Vec<&str> = shown.split_whitespace().collect();
    let name = message::shortened(&words.join(" "), LONGEST_NAME);
    (!name.is_empty()).then_some(name)
}

/// Reads a Patient, Practitioner, PractitionerRole, RelatedPerson or Organization leniently: what is missing is missing.
pub fn profile(resource: &Resource) -> Profile {
    let member = |name: &str| resource.members().get(name).cloned().unwrap_or(Value::Null);
    let telecom: Vec<ContactPoint> = serde_json::from_value(member("telecom")).unwrap_or_default();
    let identifiers: Vec<Identifier> = serde_json::from_value(member("identifier")).unwrap_or_default();
    let names: Vec<HumanName> = serde_json::from_value(member("name")).unwrap_or_default();
    // An Organization's name is one text.
    let one_name = member("name").as_str().map(str::to_owned);
    Profile {
        matrix_id: matrix_id(&telecom),
        name: one_name.or_else(|| current_name(&names)),
        uzi: super::identifier(&identifiers, UZI).map(str::to_owned),
        ura: super::identifier(&identifiers, URA).map(str::to_owned),
    }
}

/// The numbers in a reference that names somebody by identifier.
pub fn numbers(identifier: Option<&Identifier>) -> Profile {
    let of = |system: &str| identifier.filter(|identifier| identifier.is_of(system))?.value.clone();
    Profile { uzi: of(UZI), ura: of(URA), ..Profile::default() }
}

/// The record that a merged patient's was replaced by (R4, Patient.link of the type `replaced-by`).
pub fn replaced_by(resource: &Resource) -> Option<Instance> {
    let patient: Patient = resource.to().ok()?;
    let by = patient.link.iter().find(|link| link.kind.as_deref() == Some("replaced-by"))?;
    super::thread::instance(by.other.as_ref()?).filter(|other| other.kind() == Kind::Patient)
}

/// The Matrix user id among contact points: one in use, of the purpose `matrix-messaging`, of the right form.
fn matrix_id(telecom: &[ContactPoint]) -> Option<String> {
    let of_matrix =
        telecom.iter().filter(|point| point.has_purpose(MESSAGING) && point.usage.as_deref() != Some("old"));
    of_matrix.filter_map(|point| point.value.as_deref()).find(|value| is_user_id(value)).map(str::to_owned)
}

/// The name in use: an official or usual one before any other, never an old one.
fn current_name(names: &[HumanName]) -> Option<String> {
    let rank = |name: &&HumanName| match name.usage.as_deref() {
        Some("usual") => 0,
        Some("official") => 1,
        Some("old" | "maiden") => 3,
        _ => 2,
    };
    names.iter().min_by_key(rank).and_then(HumanName::full)
}

/// Whether a text can be a Matrix user id: a sigil, a localpart, a colon and a server name, at most 255 bytes.
pub fn is_user_id(text: &str) -> bool {
    let parts = text.strip_prefix('@').and_then(|rest| rest.split_once(':'));
    text.len() <= 255 && parts.is_some_and(|(localpart, server)| !localpart.is_empty() && !server.is_empty())
}

/// The homeserver of an organisation, from `telecom` or, as in mCSD, from `contact.telecom`.
pub fn homeserver(organization: &Organization) -> Option<String> {
    let contacts = organization.rest.get("contact").and_then(Value::as_array).into_iter().flatten();
    let of_contacts = contacts
        .filter_map(|contact| serde_json::from_value::<Vec<ContactPoint>>(contact.get("telecom")?.clone()).ok())
        .flatten();
    let mut points = organization.telecom.iter().cloned().chain(of_contacts);
    points.find(|point| point.has_purpose(HOMESERVER))?.value
}

/// The content of `custom.user_mappings` for a member. Of a patient it says no more than the reference.
pub fn user_mapping(reference: &str, profile: &Profile, role_code: Option<&str>) -> Value {
    let mut content = Map::from_iter([("fhirRef".to_owned(), json!(reference))]);
    if !reference.starts_with("Patient/") {
        let known = [("uziNr", profile.uzi.as_deref()), ("roleCode", role_code), ("uraNr", profile.ura.as_deref())];
        content.extend(known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?)))));
    }
    Value::Object(content)
}

/// The content that an invitation to another organisation carries: whom it is about, by pseudonym alone.
///
/// `None` when the patient has no pseudonym: then the invitation says nothing. A BSN is never used.
pub fn invite_context(patient: &Patient) -> Option<Value> {
    let pseudonym = super::identifier(&patient.identifier, PSEUDONYM)?;
    Some(json!({
        "version": 1.0,
        "room.subject": {
            "resourceType": "Patient",
            "identifier": [{ "system": PSEUDONYM, "value": pseudonym }],
        },
    }))
}
