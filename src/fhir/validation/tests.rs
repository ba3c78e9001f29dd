use super::*;
use crate::fhir::resources::ResourceType;
use serde_json::json;

fn outcome(value: Value) -> Vec<String> {
    let resource: Resource = serde_json::from_value(value).unwrap();
    match validate(&resource) {
        Ok(()) => Vec::new(),
        Err(outcome) => outcome
            .issue
            .iter()
            .map(|issue| {
                let code = issue.code.as_ref().unwrap();
                format!("{} [{code}] {}", issue.expression.join(" "), issue.diagnostics.as_deref().unwrap())
            })
            .collect(),
    }
}

#[test]
fn everything_wrong_is_named_by_its_path() {
    insta::assert_json_snapshot!(outcome(json!({
        "resourceType": "CareTeam",
        "id": "not an id",
        "status": "busy",
        "nonsense": 1,
        "name": ["list"],
        "category": {"text": "no list"},
        "subject": {"reference": "Practitioner/1"},
        "managingOrganization": [],
        "participant": [
            {"member": {"reference": "Patient/1", "extra": true}},
            {"role": [{"coding": [{"system": "a b", "code": " x"}]}], "period": {"start": "2026-02", "end": "2026-01-31"}},
            {},
            null,
            {"member": {"reference": "#nobody"}}
        ],
        "_name": {"extension": [{"url": "http://x"}]},
        "_subject": {"id": "a"},
        "note": [{"text": "x", "authorString": "a", "authorReference": {"display": "b"}}],
        "telecom": [{"value": "@a:b", "rank": 0}],
        "contained": [{"resourceType": "Patient", "id": "p", "birthDate": "yesterday", "contained": []}],
        "text": {"status": "generated", "div": "<div><script>x</script></div>"}
    })));
}

#[test]
fn what_must_be_there_is_asked_for() {
    insta::assert_json_snapshot!(outcome(json!({
        "resourceType": "Communication",
        "payload": [{"id": "1"}, {"contentString": "a", "contentReference": {"reference": "Task/1"}}],
        "sent": "2026-11-22T10:00",
    })));
}

#[test]
fn primitive_extensions_may_stand_for_values() {
    assert_eq!(
        outcome(json!({
            "resourceType": "Communication",
            "_status": {"extension": [{
                "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"
            }]},
            "payload": [{"contentString": "hallo", "_contentString": {"id": "x"}}]
        })),
        Vec::<String>::new()
    );
    assert_eq!(
        outcome(json!({
            "resourceType": "Patient",
            "name": [{"given": ["Jan", null], "_given": [null, {"id": "second"}]}]
        })),
        Vec::<String>::new()
    );
    insta::assert_json_snapshot!(outcome(json!({
        "resourceType": "Patient",
        "name": [{"given": ["Jan", null], "_given": [null]}, {"given": [null], "_given": [null]}, {"_given": {"id": "x"}}]
    })));
}

#[test]
fn the_invariants_of_resources_hold() {
    for (resource, broken) in [
        (json!({"resourceType": "Organization", "active": true}), "Organization [invariant] org-1"),
        (
            json!({"resourceType": "Organization", "name": "x", "telecom": [{"system": "phone", "use": "home"}]}),
            "Organization [invariant] org-2",
        ),
        (
            json!({"resourceType": "Organization", "name": "x", "address": [{"use": "home"}]}),
            "Organization [invariant] org-3",
        ),
        (json!({"resourceType": "Patient", "contact": [{"gender": "male"}]}), "Patient.contact[0] [invariant] pat-1"),
        (
            json!({"resourceType": "CareTeam", "participant": [{
                "member": {"reference": "Patient/p"}, "onBehalfOf": {"reference": "Organization/o"}}]}),
            "CareTeam.participant[0] [invariant] ctm-1",
        ),
        (
            json!({"resourceType": "Task", "status": "draft", "intent": "order", "authoredOn": "2026-02",
                "lastModified": "2026-01-31"}),
            "Task [invariant] inv-1",
        ),
    ] {
        let issues = outcome(resource);
        assert!(issues.len() == 1 && issues[0].starts_with(broken), "{issues:?}");
    }
    for right in [
        // What nothing refers to (dom-3) is taken: messages of the field hold a Provenance so.
        json!({"resourceType": "Task", "status": "draft", "intent": "order",
            "contained": [{"resourceType": "Provenance", "id": "v"}]}),
        json!({"resourceType": "Organization", "identifier": [{"system": "s", "value": "1"}]}),
    ] {
        assert_eq!(outcome(right), Vec::<String>::new());
    }
}

#[test]
fn values_are_never_repeated() {
    let issues = outcome(json!({
        "resourceType": "Patient",
        "identifier": [{"system": "http://fhir.nl/fhir/NamingSystem/bsn", "value": 999_990_019}],
        "birthDate": "geboren 999990019", "gender": "999990019"
    }));
    assert_eq!(issues.len(), 3);
    assert!(!issues.iter().any(|issue| issue.contains("999990019")), "{issues:?}");
}

#[test]
fn a_thoroughly_broken_resource_gets_a_short_answer() {
    let members: Map<String, Value> = (0..10_000)
        .map(|number| (format!("m{number}"), json!(1)))
        .chain([("resourceType".into(), "Task".into())])
        .collect();
    assert_eq!(outcome(Value::Object(members)).len(), MOST_ISSUES);
}

#[test]
fn data_types_are_not_resources() {
    for name in ["Period", "CareTeam.participant", "Encounter", "*", "Element"] {
        assert_eq!(outcome(json!({"resourceType": name, "id": "a"})).len(), 1, "{name}");
    }
}

/// Reads a resource into its struct and writes it again.
fn through_its_struct(kind: ResourceType, resource: &Resource) -> Resource {
    use crate::fhir::resources::*;
    fn both<T: Typed>(resource: &Resource) -> Resource {
        Resource::of(&resource.to::<T>().unwrap())
    }
    match kind {
        ResourceType::AuditEvent => both::<AuditEvent>(resource),
        ResourceType::Bundle => both::<Bundle>(resource),
        ResourceType::CapabilityStatement => both::<CapabilityStatement>(resource),
        ResourceType::CareTeam => both::<CareTeam>(resource),
        ResourceType::Communication => both::<Communication>(resource),
        ResourceType::CommunicationRequest => both::<CommunicationRequest>(resource),
        ResourceType::Endpoint => both::<Endpoint>(resource),
        ResourceType::Location => both::<Location>(resource),
        ResourceType::OperationOutcome => both::<OperationOutcome>(resource),
        ResourceType::Organization => both::<Organization>(resource),
        ResourceType::Parameters => both::<Parameters>(resource),
        ResourceType::Patient => both::<Patient>(resource),
        ResourceType::Practitioner => both::<Practitioner>(resource),
        ResourceType::PractitionerRole => both::<PractitionerRole>(resource),
        ResourceType::RelatedPerson => both::<RelatedPerson>(resource),
        ResourceType::Subscription => both::<Subscription>(resource),
        ResourceType::Task => both::<Task>(resource),
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_is_legal_is_accepted_and_loses_nothing(seed: u64, number in 0..ResourceType::ALL.len()) {
        let kind = ResourceType::ALL[number];
        let made = made_up::resource(kind, seed);
        proptest::prop_assert_eq!(validate(&made), Ok(()));
        let read = Resource::from_json(made.to_json().as_bytes()).unwrap();
        proptest::prop_assert_eq!(&read, &made);
        let written = through_its_struct(kind, &read);
        proptest::prop_assert_eq!(&written, &made);
        // Equal numbers must have equal digits, too.
        let sorted = |resource: &Resource| {
            let mut value = Value::from(resource.clone());
            value.sort_all_objects();
            value.to_string()
        };
        proptest::prop_assert_eq!(sorted(&written), sorted(&made));
    }
}
