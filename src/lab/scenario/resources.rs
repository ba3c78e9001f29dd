//! The FHIR resources of a run: a patient, a relative, the practitioners with their Matrix ids, and what they write.

use serde_json::{Value, json};

use crate::fhir::instant::DateTime;

/// How many characters of an id the bridge puts into a room's name.
const PIECE: usize = 8;

/// Who takes part, and the letters that make their ids this run's own.
#[derive(Debug)]
pub(super) struct Cast {
    /// Letters of the run.
    pub(super) run: String,
    /// The Matrix ids of the practitioners.
    pub(super) users: Vec<String>,
}

// === impl Cast ===

impl Cast {
    fn id(&self, what: &str) -> String {
        format!("{}-{what}", self.run)
    }

    /// What the name of the team's space ends with.
    pub(super) fn team_piece(&self) -> String {
        self.id("t-team").chars().take(PIECE).collect()
    }

    /// What the name of the conversation's room ends with.
    pub(super) fn conversation_piece(&self) -> String {
        self.id("c-conversation").chars().take(PIECE).collect()
    }

    /// By what organisations that may not know the patient's number speak of them.
    pub(super) fn pseudonym(&self) -> String {
        self.id("pseudonym")
    }

    fn patient_reference(&self) -> String {
        format!("Patient/{}", self.id("patient"))
    }

    pub(super) fn relative_reference(&self) -> String {
        format!("RelatedPerson/{}", self.id("relative"))
    }

    pub(super) fn practitioner_reference(&self, index: usize) -> String {
        format!("Practitioner/{}", self.id(&format!("practitioner-{}", index + 1)))
    }

    pub(super) fn team_reference(&self) -> String {
        format!("CareTeam/{}", self.id("t-team"))
    }

    pub(super) fn conversation_reference(&self) -> String {
        format!("CommunicationRequest/{}", self.id("c-conversation"))
    }

    /// The conversation, whose first message is in itself, and the given number of messages after it.
    pub(super) fn written(&self, messages: usize) -> Vec<String> {
        let after = (0..messages).map(|index| format!("Communication/{}", self.message_id(index)));
        [self.conversation_reference()].into_iter().chain(after).collect()
    }

    fn message_id(&self, index: usize) -> String {
        self.id(&format!("message-{}", index + 1))
    }

    pub(super) fn patient(&self) -> Value {
        json!({
            "resourceType": "Patient", "id": self.id("patient"),
            "name": [{ "family": "Jansen", "given": ["Truus"] }],
            "identifier": [{ "system": "http://fhir.nl/fhir/NamingSystem/pseudo-bsn", "value": self.pseudonym() }],
        })
    }

    pub(super) fn relative(&self) -> Value {
        json!({
            "resourceType": "RelatedPerson", "id": self.id("relative"),
            "patient": { "reference": self.patient_reference() },
            "name": [{ "text": "Kees Jansen" }],
        })
    }

    /// A practitioner who has a Matrix user of their own, at their own organisation.
    pub(super) fn practitioner(&self, index: usize) -> Value {
        json!({
            "resourceType": "Practitioner", "id": self.id(&format!("practitioner-{}", index + 1)),
            "name": [{ "text": format!("Zorgverlener {}", index + 1) }],
            "telecom": [{
                "system": "other", "value": self.users.get(index),
                "extension": [{
                    "url": "http://hl7.org/fhir/StructureDefinition/contactpoint-purpose",
                    "valueString": "matrix-messaging",
                }],
            }],
        })
    }

    pub(super) fn team(&self) -> Value {
        let practitioners = (0..self.users.len()).map(|index| self.practitioner_reference(index));
        let members = practitioners.chain([self.relative_reference()]);
        let participants: Vec<Value> = members.map(|member| json!({ "member": { "reference": member } })).collect();
        json!({
            "resourceType": "CareTeam", "id": self.id("t-team"), "status": "active",
            "subject": { "reference": self.patient_reference() },
            "participant": participants,
        })
    }

    pub(super) fn conversation(&self, question: &str) -> Value {
        json!({
            "resourceType": "CommunicationRequest", "id": self.id("c-conversation"), "status": "active",
            "subject": { "reference": self.patient_reference() },
            "requester": { "reference": self.relative_reference() },
            "recipient": [{ "reference": self.team_reference() }],
            "payload": [{ "contentString": question }],
        })
    }

    /// A message of the relative, sent now.
    pub(super) fn message(&self, index: usize, text: &str) -> Value {
        json!({
            "resourceType": "Communication", "id": self.message_id(index), "status": "completed",
            "sent": DateTime::now().to_string(),
            "subject": { "reference": self.patient_reference() },
            "partOf": [{ "reference": self.conversation_reference() }],
            "sender": { "reference": self.relative_reference() },
            "payload": [{ "contentString": text }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::resources::Resource;

    #[test]
    fn what_is_written_is_fhir() {
        let cast = Cast { run: "a1b2c3".to_owned(), users: vec!["@anna:huisarts".to_owned()] };
        let all = [
            cast.patient(),
            cast.relative(),
            cast.practitioner(0),
            cast.team(),
            cast.conversation("Hoe gaat het?"),
            cast.message(0, "Goed."),
        ];
        for resource in all {
            Resource::from_json(resource.to_string().as_bytes()).unwrap();
        }
        assert_eq!((cast.team_piece().as_str(), cast.conversation_piece().as_str()), ("a1b2c3-t", "a1b2c3-c"));
        assert_eq!(cast.written(1), ["CommunicationRequest/a1b2c3-c-conversation", "Communication/a1b2c3-message-1"]);
    }
}
