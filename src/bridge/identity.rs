//! Which FHIR resource is which Matrix user or room: ids written as localparts and read back.
//!
//! A FHIR id is `[A-Za-z0-9\-\.]{1,64}` and case-sensitive (R4, 2.24.0.1 `id`). A localpart knows only
//! `a-z0-9._=-/+` (Matrix specification, appendices, "User identifiers"), so capitals are escaped:
//!
//! * up to [`READABLE_CAPITALS`] capitals: each is written as `_` and its small letter: `Kees-1` is `_kees-1`;
//! * more: the id in small letters, `__`, and the places of the capitals as hexadecimal digits.
//!
//! A FHIR id has no underscore, so no two ids share a localpart, and none grows beyond [`ESCAPED_BYTES`].

use std::fmt;

use thiserror::Error;

/// What every user and alias of the bridge begins with; the registration's namespaces say the same.
pub const PREFIX: &str = "_fhir_bridge_";
/// The localpart of the bridge's own user.
pub const BOT: &str = "_fhir";
/// Capitals that are written one by one; an id with more of them gets the compact form.
pub const READABLE_CAPITALS: usize = 13;
/// The longest escaped id, in bytes: 64 characters, `__` and 16 digits.
pub const ESCAPED_BYTES: usize = FHIR_ID_BYTES + 18;

/// The longest FHIR id, in bytes (R4, 2.24.0.1).
const FHIR_ID_BYTES: usize = 64;
/// The longest Matrix user id, room id or alias, in bytes, with its sigil and server name.
const MATRIX_ID_BYTES: usize = 255;

/// Why a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The text is no FHIR id.
    #[error("{0:?} is not a FHIR id: 1 to 64 of A-Z a-z 0-9 - .")]
    FhirId(String),
    /// The text is no relative reference to a resource.
    #[error("{0:?} is not a reference such as Communication/1")]
    Reference(String),
    /// Ids on this server would grow too long.
    #[error("the server name {0:?} is too long: with it, ids of the bridge could exceed 255 bytes; at most {1} fit")]
    ServerName(String, usize),
}

/// The resource types whose instances have a place in Matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A space.
    CareTeam,
    /// A room in a space.
    CommunicationRequest,
    /// A user.
    Patient,
    /// A user.
    Practitioner,
    /// A user: a practitioner in one role.
    PractitionerRole,
    /// A user.
    RelatedPerson,
    /// A user: an organisation that sends or receives as itself.
    Organization,
    /// A user: a system that sends messages.
    Device,
}

// === impl Kind ===

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::CareTeam,
        Self::CommunicationRequest,
        Self::Patient,
        Self::Practitioner,
        Self::PractitionerRole,
        Self::RelatedPerson,
        Self::Organization,
        Self::Device,
    ];

    /// The name of the FHIR resource type.
    pub fn name(self) -> &'static str {
        match self {
            Self::CareTeam => "CareTeam",
            Self::CommunicationRequest => "CommunicationRequest",
            Self::Patient => "Patient",
            Self::Practitioner => "Practitioner",
            Self::PractitionerRole => "PractitionerRole",
            Self::RelatedPerson => "RelatedPerson",
            Self::Organization => "Organization",
            Self::Device => "Device",
        }
    }

    /// The kind of a FHIR resource type, if its instances have a place in Matrix.
    pub fn of(resource_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == resource_type)
    }

    /// Whether an instance is somebody who can take part in a conversation.
    pub fn is_person(self) -> bool {
        !matches!(self, Self::CareTeam | Self::CommunicationRequest)
    }

    fn of_segment(segment: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().to_ascii_lowercase() == segment)
    }
}

/// A relative reference, `Practitioner/17`: a resource type of this module and a legal FHIR id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance {
    kind: Kind,
    id: String,
}

// === impl Instance ===

impl Instance {
    /// A reference to an instance.
    ///
    /// # Errors
    /// When the id is not a legal FHIR id.
    pub fn new(kind: Kind, id: impl Into<String>) -> Result<Self, IdentityError> {
        let id = id.into();
        if is_fhir_id(&id) { Ok(Self { kind, id }) } else { Err(IdentityError::FhirId(id)) }
    }

    /// Reads `Type/id`, also as the end of an absolute URL and with `/_history/version` behind it.
    ///
    /// # Errors
    /// When it is neither, or when the type has no place in Matrix.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let wrong = || IdentityError::Reference(text.to_owned());
        let (resource_type, id) = split_reference(text).ok_or_else(wrong)?;
        Self::new(Kind::of(resource_type).ok_or_else(wrong)?, id)
    }

    /// The resource type.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The FHIR id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The part of a user id or alias that stands before the colon and behind the sigil.
    pub fn localpart(&self) -> String {
        format!("{PREFIX}{}-{}", self.kind.name().to_ascii_lowercase(), escape(&self.id))
    }

    /// Reads a localpart of this bridge; `None` for any other, also for a spelling that the bridge would not write.
    pub fn of_localpart(localpart: &str) -> Option<Self> {
        let (kind, escaped) = localpart.strip_prefix(PREFIX)?.split_once('-')?;
        Some(Self { kind: Kind::of_segment(kind)?, id: unescape(escaped)? })
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.name(), self.id)
    }
}

/// Splits `Communication/1`, `http://x/fhir/Communication/1` or `Communication/1/_history/2` into type and id.
///
/// `None` when the text is neither, or when the id is not legal.
pub fn split_reference(text: &str) -> Option<(&str, &str)> {
    let text = text.split_once("/_history/").map_or(text, |(before, _)| before);
    let mut segments = text.rsplit('/');
    let (id, resource_type) = (segments.next()?, segments.next()?);
    let is_type = resource_type.starts_with(|first: char| first.is_ascii_uppercase())
        && resource_type.chars().all(|character| character.is_ascii_alphanumeric());
    (is_type && is_fhir_id(id)).then_some((resource_type, id))
}

/// The bridge's names on one homeserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    server: String,
}

// === impl Names ===

impl Names {
    /// The names on the homeserver `server`.
    ///
    /// # Errors
    /// When the longest name that the bridge may have to make would not be legal there.
    pub fn new(server: impl Into<String>) -> Result<Self, IdentityError> {
        let server = server.into();
        let longest = Kind::ALL.into_iter().map(|kind| kind.name().len()).max().unwrap_or_default();
        // A sigil, the prefix, the type, a hyphen, the id and a colon stand before the server name.
        let room_left = MATRIX_ID_BYTES - (PREFIX.len() + longest + ESCAPED_BYTES + 3);
        if server.is_empty() || server.len() > room_left {
            return Err(IdentityError::ServerName(server, room_left));
        }
        Ok(Self { server })
    }

    /// The homeserver's name.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The bridge's own user.
    pub fn bot(&self) -> String {
        format!("@{BOT}:{}", self.server)
    }

    /// The ghost of a person: the user that speaks for them.
    pub fn ghost(&self, person: &Instance) -> String {
        format!("@{}:{}", person.localpart(), self.server)
    }

    /// The alias of a space or room.
    pub fn alias(&self, place: &Instance) -> String {
        format!("#{}:{}", place.localpart(), self.server)
    }

    /// Whose ghost a user is; `None` for people, other servers' users and the bot.
    pub fn person_of(&self, user_id: &str) -> Option<Instance> {
        self.read(user_id, '@').filter(|reference| reference.kind.is_person())
    }

    /// What an alias stands for; `None` for aliases that are not the bridge's.
    pub fn place_of(&self, alias: &str) -> Option<Instance> {
        self.read(alias, '#').filter(|reference| !reference.kind.is_person())
    }

    /// Whether a user is the bot or a ghost: its events are the bridge's own.
    pub fn is_ours(&self, user_id: &str) -> bool {
        user_id == self.bot() || self.person_of(user_id).is_some()
    }

    fn read(&self, id: &str, sigil: char) -> Option<Instance> {
        let (localpart, server) = id.strip_prefix(sigil)?.split_once(':')?;
        if server == self.server { Instance::of_localpart(localpart) } else { None }
    }
}

/// Whether a text is a legal FHIR id.
pub fn is_fhir_id(text: &str) -> bool {
    (1..=FHIR_ID_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

/// Writes a legal FHIR id as a part of a localpart.
fn escape(id: &str) -> String {
    let capitals = id.bytes().filter(u8::is_ascii_uppercase).count();
    if capitals > READABLE_CAPITALS {
        let mask = id
            .bytes()
            .enumerate()
            .filter(|(_, byte)| byte.is_ascii_uppercase())
            .fold(0_u64, |mask, (place, _)| mask | 1 << place);
        return format!("{}__{mask:x}", id.to_ascii_lowercase());
    }
    let mut escaped = String::with_capacity(id.len() + capitals);
    for character in id.chars() {
        if character.is_ascii_uppercase() {
            escaped.push('_');
        }
        escaped.push(character.to_ascii_lowercase());
    }
    escaped
}

/// Reads what [`escape`] wrote; `None` for anything that it does not write.
fn unescape(escaped: &str) -> Option<String> {
    let id = match escaped.split_once("__") {
        Some((small, mask)) => {
            let mask = u64::from_str_radix(mask, 16).ok()?;
            let capital = |place: usize| place < 64 && mask & (1 << place) != 0;
            let restore =
                |(place, letter): (usize, char)| if capital(place) { letter.to_ascii_uppercase() } else { letter };
            small.chars().enumerate().map(restore).collect::<String>()
        }
        None => {
            let mut id = String::with_capacity(escaped.len());
            let mut letters = escaped.chars();
            while let Some(letter) = letters.next() {
                id.push(if letter == '_' { letters.next()?.to_ascii_uppercase() } else { letter });
            }
            id
        }
    };
    // One id has one spelling: what would be written otherwise is not ours.
    (is_fhir_id(&id) && escape(&id) == escaped).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> Names {
        Names::new("vvt").unwrap()
    }

    #[test]
    fn names_read_as_the_mapping_says() {
        let names = names();
        let team = Instance::parse("CareTeam/netwerk-1").unwrap();
        assert_eq!(names.alias(&team), "#_fhir_bridge_careteam-netwerk-1:vvt");
        let kees = Instance::parse("http://x/fhir/RelatedPerson/Kees.1/_history/3").unwrap();
        assert_eq!(names.ghost(&kees), "@_fhir_bridge_relatedperson-_kees.1:vvt");
        assert_eq!(names.bot(), "@_fhir:vvt");
        assert!(names.is_ours("@_fhir:vvt") && !names.is_ours("@anna:vvt"));
    }

    #[test]
    fn what_is_not_the_bridges_is_not_read() {
        let names = names();
        for user in [
            "@anna:vvt",
            "@_fhir:vvt",
            "@_fhir_bridge_patient-1:huisarts",
            "@_fhir_bridge_careteam-1:vvt",
            "@_fhir_bridge_patient-:vvt",
            "@_fhir_bridge_patient-Aa:vvt",
            "@_fhir_bridge_patient-_1:vvt",
            "@_fhir_bridge_patient-a__0:vvt",
            "@_fhir_bridge_patient-a__ffffffffffffffffff:vvt",
        ] {
            assert_eq!(names.person_of(user), None, "{user}");
        }
    }

    #[test]
    fn a_server_name_that_leaves_no_room_is_refused() {
        assert!(Names::new("a".repeat(137)).is_ok());
        assert!(matches!(Names::new("a".repeat(138)), Err(IdentityError::ServerName(_, 137))));
        assert!(Names::new("").is_err());
    }

    #[test]
    fn illegal_ids_are_refused() {
        for id in ["", "a_b", "a b", "é", &"a".repeat(65)] {
            assert!(Instance::new(Kind::Patient, id).is_err(), "{id}");
        }
        for text in ["Patient", "Patient/", "/1", "patient/1", "Bundle/1", "urn:uuid:1"] {
            assert!(Instance::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_legal_id_survives_and_fits(id in "[A-Za-z0-9.-]{1,64}", kind in 0..Kind::ALL.len()) {
            let names = Names::new("a".repeat(137)).unwrap();
            let reference = Instance::new(Kind::ALL[kind], id).unwrap();
            let localpart = reference.localpart();
            prop_assert!(localpart.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)));
            prop_assert!(names.ghost(&reference).len() <= 255);
            prop_assert_eq!(Instance::of_localpart(&localpart), Some(reference));
        }

        #[test]
        fn every_localpart_is_read_back_as_itself_or_not_at_all(rest in "[a-z0-9._-]{1,90}") {
            let localpart = format!("{PREFIX}patient-{rest}");
            if let Some(reference) = Instance::of_localpart(&localpart) {
                prop_assert_eq!(reference.localpart(), localpart);
            }
        }

        #[test]
        fn ids_that_differ_have_localparts_that_differ(a in "[Aa1.-]{1,20}", b in "[Aa1.-]{1,20}") {
            prop_assert_eq!(a == b, escape(&a) == escape(&b));
        }
    }
}
