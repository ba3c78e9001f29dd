//! What a client was given and what it wrote, as an AuditEvent for each of its requests (NEN 7513; the form is that of
//! R4's RESTful interactions and of IHE's Basic Audit Log Patterns).

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::header;
use serde_json::{Map, Value};

use super::reply::Reply;
use crate::{
    fhir::{
        audit::put_trace,
        id::Key,
        instant::DateTime,
        resources::{AuditAgent, AuditEntity, AuditEvent, AuditSource, Coding, Reference, Resource, ResourceType},
    },
    service::trace,
};

/// What a request came to.
#[derive(Debug, Default, PartialEq)]
struct Account {
    /// Versions that the client has seen or written.
    versions: BTreeSet<String>,
    /// Patients whom they are about.
    patients: BTreeSet<String>,
    /// What it searched for.
    query: Option<String>,
    writes: bool,
}

/// What is to be written down of a request.
pub(super) struct Record {
    pub(super) event: Resource,
    /// Whether something was written, which is durable already.
    pub(super) of_write: bool,
}

/// The record of a request; `None` where nothing of a patient was given or written. `interaction` is R4's name for it,
/// `base` the endpoint's address.
pub(super) fn record(client: &str, interaction: &str, reply: &Reply, base: &str) -> Option<Record> {
    let account = Account::of(reply);
    if !reply.status.is_success() || account.versions.is_empty() {
        return None;
    }
    let action = match interaction {
        "create" => "C",
        "update" => "U",
        "read" | "vread" | "history-instance" => "R",
        _ => "E",
    };
    let of_write = account.writes;
    let event = AuditEvent {
        kind: Some(
            Coding::new("http://terminology.hl7.org/CodeSystem/audit-event-type", "rest").display("RESTful Operation"),
        ),
        subtype: vec![Coding::new("http://hl7.org/fhir/restful-interaction", interaction).display(interaction)],
        action: Some(action.to_owned()),
        recorded: Some(DateTime::now()),
        outcome: Some("0".to_owned()),
        agent: vec![AuditAgent {
            who: Some(Reference::default().display(client)),
            name: Some(client.to_owned()),
            requestor: Some(true),
            ..AuditAgent::default()
        }],
        source: Some(AuditSource {
            observer: Some(Reference::default().display(base)),
            kind: vec![
                Coding::new("http://terminology.hl7.org/CodeSystem/security-source-type", "4")
                    .display("Application Server"),
            ],
            ..AuditSource::default()
        }),
        entity: account.entities(),
        ..AuditEvent::default()
    };
    let mut event = Resource::of(&event);
    if let Some(trace) = trace::current() {
        put_trace(&mut event, &trace);
    }
    Some(Record { event, of_write })
}

// === impl Account ===

impl Account {
    fn of(reply: &Reply) -> Self {
        let mut account = Self::default();
        let location = reply.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
        account.take(location, reply.content.as_ref().map(Resource::members));
        account
    }

    /// Takes what stands in an answer, or in an entry of one. Where it has a place, it was written.
    fn take(&mut self, location: Option<&str>, resource: Option<&Map<String, Value>>) {
        let kind = resource.and_then(|resource| resource.get("resourceType")?.as_str());
        if let (Some("Bundle"), Some(bundle)) = (kind, resource) {
            return self.take_bundle(bundle);
        }
        let version = match location {
            // What clients write down of themselves is a record already.
            Some(location) => Key::parse(location).filter(|key| key.kind != ResourceType::AuditEvent),
            None => resource.and_then(key_of),
        };
        let Some(version) = version.filter(|version| is_of_patients(version.kind)) else { return };
        self.writes |= location.is_some();
        self.versions.insert(version.to_string());
        self.patients.extend(resource.and_then(patient_of));
    }

    fn take_bundle(&mut self, bundle: &Map<String, Value>) {
        let list = |name: &str| bundle.get(name).and_then(Value::as_array).into_iter().flatten();
        let own = list("link").find(|link| link["relation"] == "self").and_then(|link| link["url"].as_str());
        if bundle.get("type").is_some_and(|kind| kind == "searchset") {
            self.query = own.and_then(|url| url.split_once('?')).map(|(_, query)| query.to_owned());
        }
        for entry in list("entry") {
            let location = entry["response"]["location"].as_str();
            self.take(location, entry["resource"].as_object());
        }
    }

    fn entities(self) -> Vec<AuditEntity> {
        let role = |code, text| Coding::new("http://terminology.hl7.org/CodeSystem/object-role", code).display(text);
        let kind =
            |code, text| Coding::new("http://terminology.hl7.org/CodeSystem/audit-entity-type", code).display(text);
        let patients = self.patients.into_iter().map(|patient| AuditEntity {
            what: Some(named(patient)),
            kind: Some(kind("1", "Person")),
            role: Some(role("1", "Patient")),
            ..AuditEntity::default()
        });
        let versions = self.versions.into_iter().map(|version| {
            let name = version.split('/').next().unwrap_or_default().to_owned();
            AuditEntity {
                what: Some(named(version)),
                kind: Some(Coding::new("http://hl7.org/fhir/resource-types", &name).display(&name)),
                role: Some(role("4", "Domain Resource")),
                ..AuditEntity::default()
            }
        });
        let query = self.query.map(|query| AuditEntity {
            kind: Some(kind("2", "System Object")),
            role: Some(role("24", "Query")),
            query: Some(STANDARD.encode(query)),
            ..AuditEntity::default()
        });
        patients.chain(versions).chain(query).collect()
    }
}

fn named(reference: String) -> Reference {
    Reference { reference: Some(reference), ..Reference::default() }
}

/// The directory of professionals and organisations, and what is asked of the endpoint itself, is about no patient.
fn is_of_patients(kind: ResourceType) -> bool {
    use ResourceType::{Endpoint, Location, Organization, Practitioner, PractitionerRole, Subscription};
    !matches!(kind, Endpoint | Location | Organization | Practitioner | PractitionerRole | Subscription)
}

fn key_of(resource: &Map<String, Value>) -> Option<Key> {
    let text = |name: &str| resource.get(name).and_then(Value::as_str);
    let version = resource.get("meta")?.get("versionId")?.as_str()?;
    Key::parse(&format!("{}/{}/_history/{version}", text("resourceType")?, text("id")?))
}

/// The patient whom a resource is about.
fn patient_of(resource: &Map<String, Value>) -> Option<String> {
    if resource.get("resourceType")? == "Patient" {
        return Some(format!("Patient/{}", resource.get("id")?.as_str()?));
    }
    let reference = |name: &str| resource.get(name)?.get("reference")?.as_str();
    let found = ["subject", "patient", "for"].into_iter().find_map(reference)?;
    found.starts_with("Patient/").then(|| found.to_owned())
}
