//! Who saw what: AuditEvents, as NEN 7510 and NEN 7513 ask.

use super::{literal, stable_id};
use crate::fhir::{
    instant::DateTime,
    resources::{AuditAgent, AuditEntity, AuditEvent, AuditSource, CodeableConcept, Coding, Identifier, Reference},
};

/// Who an action is written down to.
#[derive(Clone, Debug, PartialEq)]
pub struct Actor {
    /// The person, where FHIR knows them.
    pub who: Option<Reference>,
    /// Their Matrix id.
    pub user_id: String,
}

/// Somebody read a message: written once for each reader and message, whatever is repeated.
///
/// `what` names a version: `Communication/1/_history/1`. `at` is in milliseconds since 1970.
pub fn read(actor: &Actor, what: &str, at: i64, site: &str) -> AuditEvent {
    let resource_type = what.split('/').next().unwrap_or_default();
    let lifecycle = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle";
    AuditEvent {
        id: stable_id("seen", &[&actor.user_id, what]).parse().ok(),
        kind: Some(Coding::new(lifecycle, "access").display("Access/View Record Lifecycle Event")),
        action: Some("R".to_owned()),
        recorded: Some(DateTime::from_millis(at)),
        outcome: Some("0".to_owned()),
        agent: vec![AuditAgent {
            kind: Some(CodeableConcept::from(
                Coding::new("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP")
                    .display("information recipient"),
            )),
            who: actor.who.clone(),
            alt_id: Some(actor.user_id.clone()),
            requestor: Some(true),
            ..AuditAgent::default()
        }],
        source: Some(AuditSource {
            site: Some(site.to_owned()),
            observer: Some(Reference {
                identifier: Some(Box::new(Identifier::new("https://matrix.org/server-name", site))),
                display: Some("fhir-bridge".to_owned()),
                ..Reference::default()
            }),
            kind: vec![
                Coding::new("http://terminology.hl7.org/CodeSystem/security-source-type", "4")
                    .display("Application Server"),
            ],
            ..AuditSource::default()
        }),
        entity: vec![AuditEntity {
            what: Some(literal(what)),
            kind: Some(Coding::new("http://hl7.org/fhir/resource-types", resource_type).display(resource_type)),
            role: Some(
                Coding::new("http://terminology.hl7.org/CodeSystem/object-role", "4").display("Domain Resource"),
            ),
            ..AuditEntity::default()
        }],
        ..AuditEvent::default()
    }
}
