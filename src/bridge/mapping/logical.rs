//! People who are named by a business identifier alone (R4, 2.1.3.0.3 "Logical references"): who is sought, and what
//! somebody is called whom only a care directory knows.
//!
//! Dutch care teams name professionals by UZI, BIG or AGB number, organisations by URA and patients by BSN. The number
//! of a professional's card and that of an organisation are public; a BSN is neither written nor logged here.

use super::{USER_ID, literal, person};
use crate::{
    bridge::identity::{Instance, Kind},
    fhir::resources::{CareTeam, CommunicationRequest, Identifier, Reference, Resource},
};

/// Whoever has a number, where `Reference.type` does not say it: the first kind in which somebody has it counts.
struct System {
    /// All spellings; the first is the one that the bridge writes.
    spellings: &'static [&'static str],
    kinds: &'static [Kind],
}

const SYSTEMS: [System; 6] = [
    System {
        spellings: &[person::UZI, "urn:oid:2.16.528.1.1007.3.1"],
        kinds: &[Kind::Practitioner, Kind::PractitionerRole],
    },
    System { spellings: &[person::URA, "urn:oid:2.16.528.1.1007.3.3"], kinds: &[Kind::Organization] },
    System {
        spellings: &["http://fhir.nl/fhir/NamingSystem/bsn", "urn:oid:2.16.840.1.113883.2.4.6.3"],
        kinds: &[Kind::Patient, Kind::RelatedPerson],
    },
    System { spellings: &[person::PSEUDONYM], kinds: &[Kind::Patient] },
    System {
        spellings: &["http://fhir.nl/fhir/NamingSystem/big", "urn:oid:2.16.528.1.1007.5.1"],
        kinds: &[Kind::Practitioner, Kind::PractitionerRole],
    },
    System {
        spellings: &["http://fhir.nl/fhir/NamingSystem/agb-z", "urn:oid:2.16.840.1.113883.2.4.6.1"],
        kinds: &[Kind::Practitioner, Kind::PractitionerRole, Kind::Organization],
    },
];
/// Who may have a number of a system that is not known here.
const ANYBODY: [Kind; 5] =
    [Kind::Practitioner, Kind::PractitionerRole, Kind::Organization, Kind::RelatedPerson, Kind::Patient];
/// What the ids of those begin with whom only a directory knows, with the system of the number behind it.
const BY_NUMBER: [(&str, Kind, &str); 2] =
    [("uzi.", Kind::Practitioner, person::UZI), ("ura.", Kind::Organization, person::URA)];
/// Characters of a system that are repeated to people.
const SHOWN: usize = 100;

/// Who is meant by an identifier.
#[derive(Clone, PartialEq, Eq)]
pub struct Sought<'a> {
    /// The kinds of resource that it may be, in this order.
    pub kinds: &'a [Kind],
    /// Whether only one of all kinds may have the number; else the first kind counts in which somebody has it.
    pub strict: bool,
    /// The system in all its spellings; the one that was given first.
    pub systems: Vec<&'a str>,
    /// The number: never to be logged.
    pub value: &'a str,
}

// === impl Sought ===

impl<'a> Sought<'a> {
    /// Who is meant by a reference; `None` when it is literal, has no number, or means nobody who takes part.
    pub fn by(reference: &'a Reference) -> Option<Self> {
        if reference.reference.is_some() {
            return None;
        }
        let identifier = reference.identifier.as_deref()?;
        let value = identifier.value.as_deref().filter(|value| !value.is_empty())?;
        let given = identifier.system.as_deref().filter(|system| !system.is_empty() && *system != USER_ID)?;
        let known = SYSTEMS.iter().find(|system| system.spellings.contains(&given));
        let typed = match reference.kind.as_deref() {
            None => None,
            Some(kind) => Some(of_type(kind)?),
        };
        let systems = match known {
            Some(known) => {
                let others = known.spellings.iter().copied().filter(|spelling| *spelling != given);
                [given].into_iter().chain(others).collect()
            }
            None => vec![given],
        };
        let kinds = typed.or(known.map(|known| known.kinds)).unwrap_or(&ANYBODY);
        Some(Self { kinds, strict: typed.is_none() && known.is_none(), systems, value })
    }

    /// Whether a resource has the number.
    pub fn is(&self, resource: &Resource) -> bool {
        identifiers(resource).iter().any(|identifier| {
            identifier.value.as_deref() == Some(self.value)
                && identifier.system.as_deref().is_some_and(|system| self.systems.contains(&system))
        })
    }

    /// The number in the spelling that the bridge writes, if it is that of a card or of an organisation.
    pub fn public_number(&self) -> Option<Identifier> {
        let system =
            BY_NUMBER.iter().find(|(_, kind, system)| self.systems.contains(system) && self.kinds.contains(kind))?;
        Some(Identifier::new(system.2, self.value))
    }

    /// The system, short enough for a sentence.
    pub fn system(&self) -> String {
        let given = self.systems.first().copied().unwrap_or_default();
        given.chars().filter(|character| !character.is_control()).take(SHOWN).collect()
    }
}

/// The kinds that a `Reference.type` means; `None` for types that take no part.
fn of_type(name: &str) -> Option<&'static [Kind]> {
    const ALL: [Kind; 8] = Kind::ALL;
    // Types are also given as the address of their definition.
    let name = name.strip_prefix("http://hl7.org/fhir/StructureDefinition/").unwrap_or(name);
    let at = ALL.iter().position(|kind| kind.name() == name)?;
    static KINDS: [Kind; 8] = ALL;
    let found = KINDS.get(at..=at)?;
    (!matches!(found, [Kind::CommunicationRequest | Kind::Device])).then_some(found)
}

/// The references of a team that may name somebody by number.
pub fn in_team(team: &mut CareTeam) -> Vec<&mut Reference> {
    let members = team.participant.iter_mut().filter_map(|participant| participant.member.as_mut());
    members.collect()
}

/// The references of a conversation that may name somebody by number.
pub fn in_request(request: &mut CommunicationRequest) -> Vec<&mut Reference> {
    request.requester.iter_mut().chain(&mut request.sender).chain(&mut request.recipient).collect()
}

/// The identifiers of a resource, read leniently.
pub fn identifiers(resource: &Resource) -> Vec<Identifier> {
    let member = resource.members().get("identifier").cloned().unwrap_or_default();
    serde_json::from_value(member).unwrap_or_default()
}

/// Every spelling in which references may name who has these identifiers, with the system first.
pub fn spellings(identifiers: &[Identifier]) -> Vec<(&str, &str)> {
    let mut spellings = Vec::new();
    for identifier in identifiers {
        let (Some(system), Some(value)) = (identifier.system.as_deref(), identifier.value.as_deref()) else { continue };
        let known = SYSTEMS.iter().find(|known| known.spellings.contains(&system));
        let systems: &[&str] = known.map_or(std::slice::from_ref(&system), |known| known.spellings);
        spellings.extend(systems.iter().map(|system| (*system, value)));
    }
    spellings
}

/// Somebody whom only a care directory knows, by UZI or URA number: `Practitioner/uzi.900000001`.
///
/// There is no such resource. The id tells the number, so that nothing else has to remember it.
pub fn by_number(number: &Identifier) -> Option<Instance> {
    let (prefix, kind, _) = BY_NUMBER.iter().find(|(.., system)| number.is_of(system))?;
    Instance::new(*kind, format!("{prefix}{}", number.value.as_deref()?)).ok()
}

/// The number of somebody whom only a care directory knows.
pub fn number_of(person: &Instance) -> Option<Identifier> {
    let (prefix, _, system) =
        BY_NUMBER.iter().find(|(prefix, kind, _)| *kind == person.kind() && person.id().starts_with(prefix))?;
    Some(Identifier::new(*system, person.id().strip_prefix(prefix)?))
}

/// How a resource refers to somebody: by id, or by number where there is no resource.
pub fn reference(person: &Instance) -> Reference {
    match number_of(person) {
        Some(number) => Reference { kind: Some(person.kind().name().to_owned()), ..Reference::by(number) },
        None => literal(person.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(value: serde_json::Value) -> Reference {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_number_says_who_is_sought() {
        for (reference, kinds, strict) in [
            (json!({ "identifier": { "system": person::UZI, "value": "1" } }), "Practitioner PractitionerRole", false),
            (json!({ "identifier": { "system": "urn:oid:2.16.528.1.1007.3.3", "value": "1" } }), "Organization", false),
            (
                json!({ "type": "RelatedPerson", "identifier": { "system": "urn:oid:2.16.840.1.113883.2.4.6.3",
                "value": "1" } }),
                "RelatedPerson",
                false,
            ),
            (json!({ "type": "CareTeam", "identifier": { "system": "https://x", "value": "1" } }), "CareTeam", false),
            (
                json!({ "identifier": { "system": "https://x", "value": "1" } }),
                "Practitioner PractitionerRole Organization RelatedPerson Patient",
                true,
            ),
        ] {
            let reference = given(reference);
            let sought = Sought::by(&reference).unwrap();
            let names: Vec<_> = sought.kinds.iter().map(|kind| kind.name()).collect();
            assert_eq!((names.join(" ").as_str(), sought.strict), (kinds, strict));
        }
        for nobody in [
            json!({ "reference": "Practitioner/1", "identifier": { "system": person::UZI, "value": "1" } }),
            json!({ "identifier": { "system": person::UZI } }),
            json!({ "identifier": { "value": "1" } }),
            json!({ "display": "Anna" }),
            json!({ "type": "HealthcareService", "identifier": { "system": "https://x", "value": "1" } }),
            json!({ "identifier": { "system": USER_ID, "value": "@anna:vvt" } }),
        ] {
            assert!(Sought::by(&given(nobody.clone())).is_none(), "{nobody}");
        }
    }

    #[test]
    fn only_the_number_itself_counts() {
        let reference = given(json!({ "identifier": { "system": person::UZI, "value": "900" } }));
        let sought = Sought::by(&reference).unwrap();
        let resource = |system: &str, value: &str| {
            let text = json!({ "resourceType": "Practitioner", "identifier": [{ "system": system, "value": value }] });
            Resource::from_json(text.to_string().as_bytes()).unwrap()
        };
        assert!(sought.is(&resource(person::UZI, "900")) && sought.is(&resource("urn:oid:2.16.528.1.1007.3.1", "900")));
        assert!(!sought.is(&resource(person::UZI, "9000")) && !sought.is(&resource(person::URA, "900")));
    }

    #[test]
    fn somebody_of_the_directory_has_an_id_that_tells_the_number() {
        let number = Identifier::new(person::UZI, "900000001");
        let known = by_number(&number).unwrap();
        assert_eq!(known.to_string(), "Practitioner/uzi.900000001");
        assert_eq!(number_of(&known), Some(number));
        let written = serde_json::to_value(reference(&known)).unwrap();
        assert_eq!(
            written,
            json!({ "type": "Practitioner", "identifier": { "system": person::UZI, "value": "900000001" } })
        );
        assert_eq!(by_number(&Identifier::new("http://fhir.nl/fhir/NamingSystem/bsn", "999911120")), None);
        assert_eq!(by_number(&Identifier::new(person::URA, "1 2")), None, "no legal id");
        let ordinary = Instance::parse("Organization/uzi.1").unwrap();
        assert_eq!((number_of(&ordinary), reference(&ordinary)), (None, literal("Organization/uzi.1")));
    }
}
