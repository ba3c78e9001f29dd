//! What must hold for whatever a stranger sends to the FHIR endpoint. Fuzzers search for a counterexample; the tests
//! replay what is stored.

use care_federation::{
    bridge::mapping::message,
    fhir::{
        query::Query,
        repository::Repository,
        resources::{
            AuditEvent, CareTeam, Communication, CommunicationRequest, Patient, Practitioner, Resource, ResourceType,
            Subscription, Task, Typed,
        },
        server::{FhirError, FhirServer as _},
        validation::validate,
    },
};

/// A repository with something to find in it.
pub struct Searching {
    runtime: tokio::runtime::Runtime,
    repository: Repository,
    _directory: tempfile::TempDir,
}

/// A body. What is read is written as the same; what is valid has its type and keeps all that it says.
pub fn fhir_json(data: &[u8]) {
    let Ok(resource) = Resource::from_json(data) else { return };
    let again = Resource::from_json(resource.to_json().as_bytes());
    assert_eq!(again.ok().as_ref(), Some(&resource));
    let is_valid = validate(&resource).is_ok();
    match resource.kind() {
        Some(ResourceType::AuditEvent) => typed::<AuditEvent>(&resource, is_valid),
        Some(ResourceType::CareTeam) => typed::<CareTeam>(&resource, is_valid),
        Some(ResourceType::Patient) => typed::<Patient>(&resource, is_valid),
        Some(ResourceType::Practitioner) => typed::<Practitioner>(&resource, is_valid),
        Some(ResourceType::Subscription) => typed::<Subscription>(&resource, is_valid),
        Some(ResourceType::Task) => typed::<Task>(&resource, is_valid),
        Some(ResourceType::Communication) => {
            typed::<Communication>(&resource, is_valid);
            if let Ok(communication) = resource.to::<Communication>() {
                let _ = (message::request_of(&communication), message::event_of(&communication));
                let events = message::outgoing(&communication.payload);
                assert!(events.len() <= communication.payload.len());
            }
        }
        Some(ResourceType::CommunicationRequest) => typed::<CommunicationRequest>(&resource, is_valid),
        _ => {}
    }
}

fn typed<T: Typed>(resource: &Resource, is_valid: bool) {
    match resource.to::<T>() {
        Ok(typed) if is_valid => assert_eq!(&Resource::of(&typed), resource),
        Ok(_) => {}
        Err(error) => assert!(!is_valid, "valid, and yet: {error}"),
    }
}

impl Searching {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let directory = tempfile::tempdir().expect("a directory");
        let repository =
            Repository::open(&directory.path().join("fhir.db"), "http://localhost/fhir").expect("a repository");
        let message = r#"{"resourceType": "Communication", "status": "completed", "sent": "2026-11-22T10:00:00Z",
            "identifier": [{"system": "https://matrix.org/event-id", "value": "$a|b,c"}],
            "partOf": [{"reference": "CommunicationRequest/t1"}], "subject": {"reference": "Patient/p"}}"#;
        let message = Resource::from_json(message.as_bytes()).expect("a message");
        runtime.block_on(repository.create(message, None)).expect("a message is taken");
        Self { runtime, repository, _directory: directory }
    }

    /// A type, a line break and a query. It is answered or refused; it never reaches the database as something wrong.
    pub fn fhir_search(&self, data: &[u8]) {
        let Ok(text) = std::str::from_utf8(data) else { return };
        let (kind, query) = text.split_once('\n').unwrap_or(("Communication", text));
        let Ok(query) = Query::parse(query) else { return };
        assert_eq!(Query::parse(&query.to_string()).as_ref(), Ok(&query));
        let kind = kind.parse().unwrap_or(ResourceType::Communication);
        match self.runtime.block_on(self.repository.search(kind, &query)) {
            Ok(page) => {
                assert!(page.matches().count() <= 500);
                if let Some(next) = &page.next {
                    let followed = self.runtime.block_on(self.repository.follow(next));
                    assert!(followed.is_ok(), "{next:?} {followed:?}");
                }
            }
            Err(FhirError::Invalid(_) | FhirError::NotSupported(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}
