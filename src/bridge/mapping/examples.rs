//! Resources as care systems write them: `tests/examples` has those of our own, in the shapes of HL7's R4 examples and
//! of the OZO guide's, with everything that is used there. `FHIR_EXAMPLES=DIRECTORY cargo test --lib examples` runs
//! the same over others, such as npm's `hl7.fhir.r4.examples`; what is no resource of ours is passed over.

use std::{collections::BTreeMap, env, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::message::{self, Incoming, Said};
use crate::fhir::{
    repository::Repository,
    resources::{
        AuditEvent, CareTeam, Communication, CommunicationRequest, Endpoint, Location, NotThisResource, Organization,
        Patient, Payload, Practitioner, PractitionerRole, RelatedPerson, Resource, ResourceType, Subscription, Task,
        Typed,
    },
    server::{Condition, FhirServer as _},
    validation::validate,
};

fn read_all(directory: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let json = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    json.map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .collect()
}

fn own() -> BTreeMap<String, String> {
    read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples"))
}

fn typed(resource: &Resource) -> Option<Result<Resource, NotThisResource>> {
    fn again<T: Typed>(resource: &Resource) -> Result<Resource, NotThisResource> {
        resource.to::<T>().map(|typed| Resource::of(&typed))
    }
    Some(match resource.kind()? {
        ResourceType::AuditEvent => again::<AuditEvent>(resource),
        ResourceType::CareTeam => again::<CareTeam>(resource),
        ResourceType::Communication => again::<Communication>(resource),
        ResourceType::CommunicationRequest => again::<CommunicationRequest>(resource),
        ResourceType::Endpoint => again::<Endpoint>(resource),
        ResourceType::Location => again::<Location>(resource),
        ResourceType::Organization => again::<Organization>(resource),
        ResourceType::Patient => again::<Patient>(resource),
        ResourceType::Practitioner => again::<Practitioner>(resource),
        ResourceType::PractitionerRole => again::<PractitionerRole>(resource),
        ResourceType::RelatedPerson => again::<RelatedPerson>(resource),
        ResourceType::Subscription => again::<Subscription>(resource),
        ResourceType::Task => again::<Task>(resource),
        _ => return None,
    })
}

/// What is wrong with how a resource is read, kept and given back. `None` for what is not kept here.
async fn faults(text: &str, repository: &Repository) -> Option<Vec<String>> {
    let resource = Resource::from_json(text.as_bytes()).ok()?;
    let (typed, mut faults) = (typed(&resource)?, Vec::new());
    let before: Value = serde_json::from_str(text).unwrap();
    if serde_json::from_str::<Value>(&resource.to_json()).unwrap() != before {
        faults.push("not written as it was read".to_owned());
    }
    match typed {
        Err(error) => faults.push(format!("not read as its type: {error}")),
        Ok(again) if again != resource => faults.push("its type loses something".to_owned()),
        Ok(_) => {}
    }
    if let Err(outcome) = validate(&resource) {
        faults.push(format!("not valid: {outcome:?}"));
    }
    let asks_for_payload = resource.members().get("channel").is_some_and(|channel| channel.get("payload").is_some());
    if resource.id().is_some() && faults.is_empty() && !asks_for_payload {
        match repository.update(resource.clone(), Condition::Always).await {
            Err(error) => faults.push(format!("not taken: {error}")),
            Ok(_) => {
                let key = resource.key().unwrap();
                let mut kept = repository.read(key.kind, &key.id).await.unwrap();
                if key.kind == ResourceType::Subscription {
                    // Its status and error are the server's to say.
                    kept.members_mut().shift_remove("error");
                    kept.members_mut().insert("status".to_owned(), before["status"].clone());
                }
                let mut before = resource.clone();
                before.members_mut().shift_remove("error").filter(|_| key.kind == ResourceType::Subscription);
                if !kept.says_the_same_as(&before) {
                    faults.push("not kept as it came".to_owned());
                }
            }
        }
    }
    faults.extend(payload_of(&resource).iter().filter_map(on_the_way));
    Some(faults)
}

fn payload_of(resource: &Resource) -> Vec<Payload> {
    match resource.kind() {
        Some(ResourceType::Communication) => resource.to::<Communication>().map(|found| found.payload),
        Some(ResourceType::CommunicationRequest) => resource.to::<CommunicationRequest>().map(|found| found.payload),
        _ => Ok(Vec::new()),
    }
    .unwrap_or_default()
}

/// What a payload loses on its way to Matrix and back.
fn on_the_way(payload: &Payload) -> Option<String> {
    let outgoing = message::outgoing(std::slice::from_ref(payload)).pop()?;
    if let Some(data) = payload.content_attachment.as_ref().and_then(|attachment| attachment.data.as_ref()) {
        let bytes: String = data.chars().filter(|character| !character.is_whitespace()).collect();
        let upload = outgoing.upload?;
        return (STANDARD.decode(bytes).ok()? != upload.bytes).then(|| "a file is another one".to_owned());
    }
    let read = message::read("m.room.message", &Value::Object(outgoing.content), false, None);
    let Incoming::Message { said: Said::Text(back), .. } = read else {
        return Some(format!("not read back: {read:?}"));
    };
    let said = back.content_string.clone().unwrap_or_default();
    match (&payload.content_string, &payload.content_attachment) {
        (Some(text), _) => {
            let rendering = |payload: &Payload| {
                let extensions = payload.rest.get("_contentString")?.get("extension")?.as_array()?.clone();
                extensions.into_iter().find(|extension| extension["url"] == message::RENDERING)
            };
            (*text != said || rendering(payload) != rendering(&back)).then(|| format!("a text is another one: {said}"))
        }
        (None, Some(attachment)) => {
            let named = |part: &Option<String>| part.as_ref().is_none_or(|part| said.contains(part.as_str()));
            (!named(&attachment.title) || !named(&attachment.url)).then(|| format!("a file is not named: {said}"))
        }
        (None, None) => None,
    }
}

async fn check(all: BTreeMap<String, String>) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::open(&directory.path().join("fhir.db"), "http://localhost/fhir").unwrap();
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for (name, text) in all {
        let Some(faults) = faults(&text, &repository).await else { continue };
        checked += 1;
        wrong.extend(faults.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    checked
}

#[tokio::test]
async fn resources_of_real_shapes_are_kept_whole() {
    let all = own();
    let many = all.len();
    assert!(many >= 15, "{many}");
    assert_eq!(check(all).await, many);
}

#[tokio::test]
async fn the_examples_of_others_are_kept_whole() {
    let Some(directory) = env::var_os("FHIR_EXAMPLES") else { return };
    assert!(check(read_all(Path::new(&directory))).await > 0, "no examples there");
}

#[test]
fn messages_of_real_shapes_become_events() {
    let contents: BTreeMap<String, Vec<Value>> = own()
        .into_iter()
        .filter(|(name, _)| name.starts_with("Communication"))
        .map(|(name, text)| {
            let resource = Resource::from_json(text.as_bytes()).unwrap();
            let events = message::outgoing(&payload_of(&resource)).into_iter();
            (name, events.map(|outgoing| Value::Object(outgoing.content)).collect())
        })
        .collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&contents).unwrap());
}
