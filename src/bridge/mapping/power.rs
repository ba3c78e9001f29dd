//! Who may do what: the power levels of the Dutch specification.

use std::collections::BTreeMap;

use ruma::OwnedUserId;

use crate::{
    bridge::identity::Kind,
    fhir::resources::{CodeableConcept, Participant},
    matrix::rooms::Levels,
};

/// A care team's lead.
pub const LEAD: i64 = 100;
/// A practitioner.
pub const PRACTITIONER: i64 = 75;
/// A related person.
pub const RELATED: i64 = 50;
/// A patient, and whoever has no role.
pub const PATIENT: i64 = 25;

/// Every member says who they are in FHIR. The event's key is their own id, so nobody can say it for another.
const OWN_MAPPING: (&str, i64) = (super::person::USER_MAPPINGS, PATIENT);

/// The level of a kind of person.
pub fn of_kind(kind: Kind) -> i64 {
    match kind {
        Kind::Practitioner | Kind::PractitionerRole | Kind::Organization | Kind::Device => PRACTITIONER,
        Kind::RelatedPerson => RELATED,
        Kind::Patient | Kind::CareTeam | Kind::CommunicationRequest => PATIENT,
    }
}

/// The level of a participant of a care team: that of their kind, or a lead's.
///
/// R4 has no code for a lead, so `lead_roles` are configured: a code, display or text that means it, in any case.
/// Only a professional can lead.
pub fn of_participant(kind: Kind, participant: &Participant, lead_roles: &[String]) -> i64 {
    let level = of_kind(kind);
    let leads = level == PRACTITIONER && participant.role.iter().any(|role| means(role, lead_roles));
    if leads { LEAD } else { level }
}

fn means(role: &CodeableConcept, words: &[String]) -> bool {
    let codes = role.coding.iter().flat_map(|coding| [coding.code.as_deref(), coding.display.as_deref()]);
    codes.chain([role.text.as_deref()]).flatten().any(|said| words.iter().any(|word| word.eq_ignore_ascii_case(said)))
}

/// The power levels of a care team's space.
pub fn of_space(users: BTreeMap<OwnedUserId, i64>) -> Levels {
    Levels {
        users,
        users_default: 25,
        events_default: 100,
        state_default: 100,
        invite: 75,
        kick: 100,
        ban: 100,
        redact: 100,
        events: levels(&[("m.room.member", 75), ("m.space.child", 50), OWN_MAPPING]),
        notifications: levels(&[("room", 75)]),
    }
}

/// The power levels of a conversation. In one that is `closed` only leads can write.
pub fn of_room(users: BTreeMap<OwnedUserId, i64>, closed: bool) -> Levels {
    let speak = if closed { LEAD } else { PATIENT };
    Levels {
        users,
        users_default: 25,
        events_default: if closed { LEAD } else { 75 },
        state_default: 75,
        invite: 50,
        kick: 75,
        ban: 100,
        redact: 50,
        events: levels(&[
            ("m.room.message", speak),
            ("m.reaction", speak),
            ("m.room.name", 75),
            ("m.room.topic", 75),
            ("m.room.member", 50),
            // Whoever replaces a room takes the conversation away from the record.
            ("m.room.tombstone", LEAD),
            OWN_MAPPING,
        ]),
        notifications: levels(&[("room", 50)]),
    }
}

fn levels(levels: &[(&str, i64)]) -> BTreeMap<String, i64> {
    levels.iter().map(|(kind, level)| ((*kind).to_owned(), *level)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::rooms::Action;

    fn participant(text: &str) -> Participant {
        Participant { role: vec![CodeableConcept::text(text)], ..Participant::default() }
    }

    #[test]
    fn levels_follow_from_kind_and_role() {
        let leads = ["regiebehandelaar".to_owned()];
        assert_eq!(of_participant(Kind::Practitioner, &participant("Regiebehandelaar"), &leads), 100);
        assert_eq!(of_participant(Kind::Practitioner, &participant("verpleegkundige"), &leads), 75);
        assert_eq!(of_participant(Kind::RelatedPerson, &participant("regiebehandelaar"), &leads), 50);
        assert_eq!(of_participant(Kind::Patient, &participant("regiebehandelaar"), &leads), 25);
    }

    #[test]
    fn a_patient_may_write_and_not_change_the_room() {
        let open = of_room(BTreeMap::new(), false);
        assert_eq!(
            (open.needed(Action::Send("m.room.message")), open.needed(Action::SetState("m.room.name"))),
            (25, 75)
        );
        assert_eq!(of_room(BTreeMap::new(), true).needed(Action::Send("m.room.message")), 100);
        let space = of_space(BTreeMap::new());
        assert_eq!((space.events_default, space.needed(Action::SetState("m.space.child"))), (100, 50));
    }
}
