use serde_json::{Value, json};

use super::*;
use crate::{
    fhir::{
        etag::Tags,
        server::{Effect, Mode},
    },
    service::database::tests::{Place, on_both, server},
};

struct Opened {
    repository: Repository,
    place: Place,
}

async fn open(place: Place) -> Opened {
    let repository = open_named(&place.name()).await;
    Opened { repository, place }
}

/// A repository by its place's name. On PostgreSQL each is one more replica.
async fn open_named(name: &str) -> Repository {
    let base = "http://localhost/fhir";
    if name.starts_with("postgresql://") {
        return Repository::connect(&server(name), base, Patience::Command).await.unwrap();
    }
    Repository::open(&Path::new(name).join("fhir.db"), base).unwrap()
}

fn resource(value: Value) -> Resource {
    serde_json::from_value(value).unwrap()
}

fn message(event: &str, sent: &str) -> Resource {
    resource(json!({
        "resourceType": "Communication", "status": "completed", "sent": sent,
        "identifier": [{"system": "https://matrix.org/event-id", "value": event}],
        "partOf": [{"reference": "CommunicationRequest/t"}],
        "subject": {"reference": "Patient/p"},
        "payload": [{"contentString": "hallo"}]
    }))
}

fn query(text: &str) -> Query {
    Query::parse(text).unwrap()
}

async fn found(repository: &Repository, kind: ResourceType, text: &str) -> Vec<String> {
    let page = repository.search(kind, &query(text)).await.unwrap();
    page.matches().map(|resource| resource.id().unwrap().to_string()).collect()
}

on_both! {
    a_resource_is_kept_in_all_its_versions,
    sixty_four_creates_at_once_make_one,
    ids_and_moments_grow_and_no_change_is_missed,
    searches_find_what_they_should,
    patients_of_before_are_found_by_deceased,
    what_a_query_asks_wrongly_is_refused,
    pages_hold_everything_once_even_while_others_write,
    a_transaction_ties_its_resources_together,
    a_condition_may_match_what_its_own_transaction_makes,
    a_transaction_keeps_the_rules_of_updates_by_search,
    a_transaction_does_all_or_nothing_and_a_batch_what_it_can,
    an_update_by_search_finds_or_makes_its_resource,
    audit_events_are_never_changed,
    subscriptions_are_owed_what_matches,
    what_the_database_says_is_of_this_resource_or_of_all,
    an_acknowledged_write_survives_a_kill,
}

async fn a_resource_is_kept_in_all_its_versions(place: Place) {
    let opened = open(place).await;
    let made = opened.repository.create(message("$1", "2026-11-22T10:00:00Z"), None).await.unwrap();
    assert_eq!(made.effect, Effect::Created);
    let id = made.resource.id().unwrap();
    let mut changed = made.resource.clone();
    changed.members_mut().insert("status".into(), "entered-in-error".into());
    let updated = opened.repository.update(changed.clone(), Condition::VersionIs("1")).await.unwrap();
    assert_eq!((updated.effect, updated.resource.version()), (Effect::Updated, Some("2")));
    let unchanged = opened.repository.update(changed.clone(), Condition::Always).await.unwrap();
    assert_eq!((unchanged.effect, unchanged.resource.version()), (Effect::Unchanged, Some("2")));
    let stale = opened.repository.update(changed, Condition::VersionIs("1")).await.unwrap_err();
    assert!(matches!(stale, FhirError::VersionConflict(_)), "{stale}");

    drop(opened.repository);
    let again = open_named(&opened.place.name()).await;
    let kind = ResourceType::Communication;
    assert_eq!(again.vread(kind, &id, "1").await.unwrap(), made.resource);
    assert_eq!(FhirServer::read(&again, kind, &id).await.unwrap(), updated.resource);
    for absent in ["0", "3", "01", "+1", "x"] {
        assert!(matches!(again.vread(kind, &id, absent).await, Err(FhirError::NotFound(_))), "{absent}");
    }
    let history = again.history(HistoryOf::Instance(kind, &id), None, None).await.unwrap();
    let versions: Vec<_> = history.matches().map(|version| version.version().unwrap().to_owned()).collect();
    assert_eq!(versions, ["2", "1"]);
}

async fn sixty_four_creates_at_once_make_one(place: Place) {
    let opened = open(place).await;
    let unless = Query::identifier("https://matrix.org/event-id", "$1");
    let creates = (0..64).map(|_| {
        let (repository, unless) = (opened.repository.clone(), unless.clone());
        tokio::spawn(async move { repository.create(message("$1", "2026-11-22"), Some(&unless)).await.unwrap() })
    });
    let written: Vec<Written> = join_all(creates).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(written.iter().filter(|written| written.effect == Effect::Created).count(), 1);
    assert!(written.iter().all(|one| one.resource == written[0].resource));
    assert_eq!(found(&opened.repository, ResourceType::Communication, "").await.len(), 1);
}

async fn ids_and_moments_grow_and_no_change_is_missed(place: Place) {
    let opened = open(place).await;
    let creates = (0..100).map(|number| {
        let repository = opened.repository.clone();
        tokio::spawn(async move { repository.create(message(&number.to_string(), "2026"), None).await.unwrap() })
    });
    let reader = async {
        let (mut cursor, mut seen) = (None, Vec::new());
        while seen.len() < 100 {
            let changes = opened.repository.changes(&[ResourceType::Communication], cursor.as_ref(), 7).await.unwrap();
            seen.extend(changes.resources);
            cursor = Some(changes.next);
            tokio::task::yield_now().await;
        }
        seen
    };
    let (_, seen) = futures_util::future::join(join_all(creates), reader).await;
    let ids: Vec<_> = seen.iter().map(|resource| resource.id().unwrap()).collect();
    let moments: Vec<_> =
        seen.iter().map(|resource| resource.last_updated().unwrap().moments().unwrap().start).collect();
    assert!(ids.is_sorted_by(|a, b| a < b) && moments.is_sorted_by(|a, b| a < b));
}

async fn searches_find_what_they_should(place: Place) {
    let Opened { repository, place: _place } = open(place).await;
    for (id, value) in [
        (
            "p",
            json!({"resourceType": "Patient", "birthDate": "1950-02", "name": [{"family": "Müller", "given": ["Zoë"]}],
                     "identifier": [{"system": "http://s", "value": "1|2"}], "telecom": [{"system": "email", "value": "a@b"}],
                     "gender": "female", "deceasedBoolean": false}),
        ),
        (
            "q",
            json!({"resourceType": "Patient", "birthDate": "1960-01-01", "name": [{"text": "Jan Mulder"}],
                     "deceasedDateTime": "2026-11-01"}),
        ),
        (
            "t",
            json!({"resourceType": "CommunicationRequest", "status": "active", "basedOn": [{"reference": "CareTeam/c"}]}),
        ),
        (
            "c",
            json!({"resourceType": "CareTeam", "status": "active", "subject": {"reference": "http://localhost/fhir/Patient/p"},
                     "participant": [{"member": {"reference": "Practitioner/d"}}, {"member": {"identifier": {"system": "u", "value": "9"}}}]}),
        ),
        ("d", json!({"resourceType": "Practitioner", "active": true})),
        (
            "k",
            json!({"resourceType": "Task", "status": "requested", "intent": "order", "owner": {"reference": "Practitioner/d"},
                     "focus": {"reference": "Communication/m1"}, "for": {"reference": "Patient/p"}}),
        ),
        (
            "m1",
            json!({"resourceType": "Communication", "status": "completed", "sent": "2026-11-22T10:00:00Z",
                      "subject": {"reference": "Patient/p"}, "partOf": [{"reference": "CommunicationRequest/t"}]}),
        ),
        (
            "m2",
            json!({"resourceType": "Communication", "status": "entered-in-error", "sent": "2026-11-23T10:00:00+02:00",
                      "subject": {"reference": "https://elsewhere/fhir/Patient/p"}, "meta": {"tag": [{"system": "t", "code": "x"}]}}),
        ),
    ] {
        let mut value = resource(value);
        value.set_id(&id.parse().unwrap());
        repository.update(value, Condition::Absent).await.unwrap();
    }
    use ResourceType::*;
    for (kind, text, ids) in [
        (Patient, "name=muller", vec!["p"]),
        (Patient, "name=mul", vec!["p"]),
        (Patient, "name:contains=MULDER", vec!["q"]),
        (Patient, "name:exact=Zoë", vec!["p"]),
        (Patient, "name:exact=zoe", vec![]),
        (Patient, "identifier=http://s|1\\|2", vec!["p"]),
        (Patient, "identifier=1\\|2", vec!["p"]),
        (Patient, "identifier=http://s|", vec!["p"]),
        (Patient, "identifier=|1\\|2", vec![]),
        (Patient, "identifier:missing=true", vec!["q"]),
        (Patient, "email=a@b", vec!["p"]),
        (Patient, "phone=a@b", vec![]),
        (Patient, "birthdate=1950", vec!["p"]),
        (Patient, "birthdate=gt1950", vec!["q"]),
        (Patient, "birthdate=ge1950-02&birthdate=lt1960", vec!["p"]),
        (Patient, "birthdate=eb1950-02", vec![]),
        (Patient, "_id=q,p", vec!["p", "q"]),
        (Patient, "deceased=true", vec!["q"]),
        (Patient, "deceased=false", vec!["p"]),
        (Patient, "deceased:not=true", vec!["p"]),
        (Patient, "death-date=2026-11", vec!["q"]),
        (Patient, "gender=http://hl7.org/fhir/administrative-gender|female", vec!["p"]),
        (Patient, "gender=http://hl7.org/fhir/administrative-gender|", vec!["p"]),
        (Patient, "gender=http://hl7.org/fhir/other|female", vec![]),
        (Patient, "birthdate=le1950-02-28T23:59", vec!["p"]),
        (Patient, "birthdate=gt1959-12-31T23:59Z", vec!["q"]),
        (CareTeam, "patient=p", vec!["c"]),
        (CareTeam, "patient=Patient/p&status=active,proposed", vec!["c"]),
        (CareTeam, "subject:Patient=p", vec!["c"]),
        (CareTeam, "participant=Practitioner/d", vec!["c"]),
        (CareTeam, "participant:identifier=u|9", vec!["c"]),
        (CareTeam, "patient.name=zoe", vec!["c"]),
        (CommunicationRequest, "based-on=CareTeam/c", vec!["t"]),
        (CommunicationRequest, "based-on:CareTeam.patient.identifier=http://s|1\\|2", vec!["t"]),
        (Communication, "part-of=CommunicationRequest/t", vec!["m1"]),
        (Communication, "status:not=completed", vec!["m2"]),
        (Communication, "patient=Patient/p", vec!["m1"]),
        (Communication, "patient=https://elsewhere/fhir/Patient/p", vec!["m2"]),
        (Communication, "sent=2026-11-22", vec!["m1"]),
        (Communication, "sent=ge2026-11-23T08:00:00Z", vec!["m2"]),
        (Communication, "sent=2026-11-22T10:00", vec!["m1"]),
        (Communication, "sent=2026-11-23T10:00+02:00", vec!["m2"]),
        (Communication, "sent=2026-11-23T10:00 02:00", vec!["m2"]),
        (Communication, "sent=gt2026-11-23T08:00Z", vec![]),
        (Communication, "status=http://hl7.org/fhir/event-status|completed", vec!["m1"]),
        (Communication, "_tag=t|x", vec!["m2"]),
        (Communication, "_sort=-sent", vec!["m2", "m1"]),
        (Communication, "_sort=status,-_id", vec!["m1", "m2"]),
        (Communication, "_lastUpdated=gt2100", vec![]),
        (Task, "owner=Practitioner/d&status=requested&focus=Communication/m1", vec!["k"]),
        (Task, "focus.status=completed", vec!["k"]),
        (Patient, "_has:CareTeam:patient:status=active", vec!["p"]),
        (Patient, "_has:CareTeam:patient:status=inactive", vec![]),
        (Patient, "_has:CareTeam:patient:participant=Practitioner/d&name=muller", vec!["p"]),
        (Patient, "_has:CareTeam:patient:_has:CommunicationRequest:based-on:status=active", vec!["p"]),
        (Practitioner, "_has:Task:owner:patient.name=zoe", vec!["d"]),
    ] {
        assert_eq!(found(&repository, kind, text).await, ids, "{kind}?{text}");
    }
    let page = repository.search(Task, &query("_include=Task:focus&_include=Task:owner&_revinclude=Task:focus")).await;
    let modes: Vec<_> =
        page.unwrap().entries.iter().map(|entry| (entry.resource.type_name().to_owned(), entry.mode)).collect();
    let expected = [("Task", Mode::Match), ("Communication", Mode::Include), ("Practitioner", Mode::Include)];
    assert_eq!(modes, expected.map(|(name, mode)| (name.to_owned(), mode)));
    let page =
        repository.search(Communication, &query("_id=m1&_revinclude=Task:focus&_include=Communication:patient")).await;
    let ids: Vec<_> = page.unwrap().entries.iter().map(|entry| entry.resource.id().unwrap().to_string()).collect();
    assert_eq!(ids, ["m1", "k", "p"]);
    for (kind, text, expected) in [
        (Task, "_include=Task:focus&_include:iterate=Communication:part-of", "k m1 t"),
        (Task, "_include=Task:focus&_include=Communication:part-of", "k m1"),
        (Task, "_include=Task:focus&_include:iterate=*", "k m1 d p t c"),
        (Task, "_include=Task:*", "k m1 p d"),
        (Task, "_include=*", "k m1 p d"),
        (Task, "_include=Task:*:Patient", "k p"),
        (CareTeam, "_revinclude=CommunicationRequest:based-on&_revinclude:iterate=Communication:part-of", "c t m1"),
        (CareTeam, "_revinclude:iterate=CommunicationRequest:*&_include=CareTeam:*", "c t p d"),
    ] {
        let page = repository.search(kind, &query(text)).await.unwrap();
        let mut ids: Vec<_> = page.entries.iter().map(|entry| entry.resource.id().unwrap().to_string()).collect();
        let mut expected: Vec<_> = expected.split(' ').collect();
        ids.sort();
        expected.sort_unstable();
        assert_eq!(ids, expected, "{kind}?{text}");
    }
}

async fn patients_of_before_are_found_by_deceased(place: Place) {
    let Opened { repository, place: _place } = open(place).await;
    for (id, deceased) in [
        ("a", json!({"deceasedBoolean": true})),
        ("b", json!({"deceasedDateTime": "2026"})),
        ("c", json!({"deceasedBoolean": false})),
        ("d", json!({"name": [{"text": "\"deceasedBoolean\":true"}]})),
    ] {
        let mut patient = resource(json!({"resourceType": "Patient", "id": id}));
        patient.members_mut().extend(deceased.as_object().unwrap().clone());
        repository.update(patient, Condition::Absent).await.unwrap();
    }
    let written_before = |_: &Store, connection: &Connection| {
        connection.execute("DELETE FROM token WHERE parameter = 'Patient.deceased'", &[])?;
        connection.execute(schema::STEPS[1].trim_end().trim_end_matches(';'), &[])?;
        Ok(())
    };
    repository.write_with(written_before).await.unwrap();
    assert_eq!(found(&repository, ResourceType::Patient, "deceased=true").await, ["a", "b"]);
    assert_eq!(found(&repository, ResourceType::Patient, "deceased=false").await, ["c", "d"]);
}

async fn what_a_query_asks_wrongly_is_refused(place: Place) {
    let Opened { repository, place: _place } = open(place).await;
    for text in [
        "nonsense=1",
        "status:above=x",
        "sent=yesterday",
        "sent=zz2026",
        "_count=x",
        "_sort=nonsense",
        "_include=x",
        "_include=Communication:status",
        "_include=Communication:part-of:CareTeam:x",
        "_revinclude=*",
        "_has:Task:focus",
        "_has:Task:focus:nonsense=1",
        "_has:Task:status:_id=1",
        "_has:CareTeam:subject:status=active",
        "_has:Nonsense:focus:status=1",
        "_include:again=Communication:part-of",
        "_cursor=x",
        "_cursor=WzEsMl0",
        "part-of=a/b/c",
        "part-of:Nonsense=1",
        "status=",
        "status.x=1",
        "_total=x",
        "_id=a_b",
        "part-of:missing=x",
        "identifier=a|b|c",
        "sent=2026-11-22T10",
    ] {
        let error = repository.search(ResourceType::Communication, &query(text)).await.unwrap_err();
        assert_eq!(crate::fhir::outcome::of(&error).0, 400, "{text}: {error}");
    }
    let many = format!("_sort={}", vec!["sent"; 5000].join(","));
    let error = repository.search(ResourceType::Communication, &query(&many)).await.unwrap_err();
    assert_eq!(crate::fhir::outcome::of(&error).0, 400, "{error}");
    let many = format!("_id={}", vec!["a"; 500].join(","));
    assert!(repository.search(ResourceType::Communication, &query(&many)).await.is_ok());
    let many = format!("status={}", vec!["a"; 500].join(","));
    assert!(repository.search(ResourceType::Communication, &query(&many)).await.is_ok());
    let many = vec![many; 51].join("&");
    assert!(repository.search(ResourceType::Communication, &query(&many)).await.is_err());
}

async fn pages_hold_everything_once_even_while_others_write(place: Place) {
    let Opened { repository, place: _place } = open(place).await;
    for number in 0..25 {
        repository.create(message(&format!("${number}"), &format!("2026-11-{:02}", 25 - number)), None).await.unwrap();
    }
    for sort in ["", "&_sort=sent", "&_sort=-_lastUpdated", "&_sort=status,-sent"] {
        let mut page =
            repository.search(ResourceType::Communication, &query(&format!("_count=10{sort}"))).await.unwrap();
        assert!(page.total >= Some(25));
        let mut ids = Vec::new();
        loop {
            ids.extend(page.matches().map(|resource| resource.id().unwrap()));
            repository.create(message("new", "2030"), None).await.unwrap();
            let Some(next) = page.next else { break };
            page = repository.follow(&next).await.unwrap();
        }
        let mut distinct = ids.clone();
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() == ids.len() && ids.len() >= 25, "{sort}: {} of {}", distinct.len(), ids.len());
    }
    let mut page = repository.history(HistoryOf::Type(ResourceType::Communication), None, Some(10)).await.unwrap();
    let total = usize::try_from(page.total.unwrap()).unwrap();
    let mut seen = 0;
    loop {
        seen += page.entries.len();
        let Some(next) = page.next else { break };
        page = repository.follow(&next).await.unwrap();
    }
    assert_eq!(seen, total);
    let since = DateTime::now();
    let nothing = repository.history(HistoryOf::System, Some(&since), None).await.unwrap();
    assert_eq!((nothing.entries.len(), nothing.total), (0, Some(0)));
}

fn bundle(kind: &str, entries: Value) -> Bundle {
    resource(json!({"resourceType": "Bundle", "type": kind, "entry": entries})).to().unwrap()
}

async fn a_transaction_ties_its_resources_together(place: Place) {
    let Opened { repository, place: _place } = open(place).await;
    repository
        .create(resource(json!({"resourceType": "Patient", "identifier": [{"system": "s", "value": "1"}]})), None)
        .await
        .unwrap();
    let uuid = "urn:uuid:c757873d-ec9a-4326-a141-556f43239520";
    let entries = json!([
        {"request": {"method": "POST", "url": "Communication"}, "resource": {
            "resourceType": "Communication", "status": "completed", "partOf": [{"reference": uuid}],
            "identifier": [{"system": "urn:ietf:rfc:3986", "value": uuid}],
            "subject": {"reference": "Patient?identifier=s|1"}}},
        {"fullUrl": uuid, "request": {"method": "POST", "url": "CommunicationRequest", "ifNoneExist": "identifier=x|1"},
            "resource": {"resourceType": "CommunicationRequest", "status": "active", "identifier": [{"system": "x", "value": "1"}]}},
        {"request": {"method": "PUT", "url": "Practitioner/d"}, "resource": {"resourceType": "Practitioner", "id": "d"}},
        {"request": {"method": "GET", "url": "Practitioner/d"}},
        {"request": {"method": "GET", "url": "Practitioner?_id=d"}},
        {"request": {"method": "GET", "url": "Practitioner/d", "ifNoneMatch": "W/\"1\""}}
    ]);
    let answer = repository.transact(bundle("transaction", entries.clone())).await.unwrap();
    let status: Vec<_> = answer.entry.iter().map(|entry| entry.response.clone().unwrap().status.unwrap()).collect();
    assert_eq!(status, ["201 Created", "201 Created", "201 Created", "200 OK", "200 OK", "304 Not Modified"]);
    assert_eq!(answer.entry[5].resource, None);
    let history = repository.history(HistoryOf::System, None, None).await.unwrap();
    let made: Vec<_> = history.entries.iter().map(|entry| (entry.resource.type_name(), entry.by_post)).collect();
    let kinds = [("Practitioner", false), ("CommunicationRequest", true), ("Communication", true), ("Patient", true)];
    assert_eq!(made, kinds);
    let written: crate::fhir::resources::Communication =
        answer.entry[0].resource.clone().unwrap().into_typed().unwrap();
    let thread = answer.entry[1].resource.clone().unwrap().key().unwrap();
    assert_eq!(written.part_of[0].key().unwrap(), thread);
    assert_eq!(written.identifier[0].value.as_deref(), Some(uuid));
    assert!(written.subject.unwrap().reference.unwrap().starts_with("Patient/"));

    let again = repository.transact(bundle("transaction", entries)).await.unwrap();
    assert_eq!(again.entry[1].resource.clone().unwrap().key().unwrap(), thread);
}

async fn a_condition_may_match_what_its_own_transaction_makes(place: Place) {
    let Opened { repository, place: _place } = open(place).await;
    let identified = |kind: &str, value: &str, rest: Value| {
        let mut made = json!({"resourceType": kind, "identifier": [{"system": "s", "value": value}]});
        made.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        json!({"request": {"method": "POST", "url": kind}, "resource": made})
    };
    // Before and behind, and each other.
    let entries = json!([
        identified("CareTeam", "team", json!({"subject": {"reference": "Patient?identifier=s|1"}})),
        identified("Patient", "1", json!({"link": [{"type": "seealso", "other": {"reference": "Patient?identifier=s|2"}}]})),
        identified("Patient", "2", json!({"link": [{"type": "seealso", "other": {"reference": "Patient?identifier=s|1"}}]})),
        {"request": {"method": "GET", "url": "CareTeam?patient.identifier=s|1"}},
    ]);
    let answer = repository.transact(bundle("transaction", entries.clone())).await.unwrap();
    let made: Vec<Resource> = answer.entry.iter().filter_map(|entry| entry.resource.clone()).collect();
    let key = |number: usize| Value::from(made[number].key().unwrap().to_string());
    assert_eq!(made[0].members()["subject"]["reference"], key(1));
    assert_eq!(made[1].members()["link"][0]["other"]["reference"], key(2));
    assert_eq!(made[2].members()["link"][0]["other"]["reference"], key(1));
    assert_eq!(made[3].members()["total"], 1);
    assert_eq!(made[0].version(), Some("1"));
    assert_eq!(found(&repository, ResourceType::CareTeam, "patient.identifier=s|2").await.len(), 0);
    // What is there and what is made together are too many.
    let error = repository.transact(bundle("transaction", entries)).await.unwrap_err();
    assert!(matches!(error, FhirError::MultipleMatches(_)), "{error}");
    let total = repository.history(HistoryOf::System, None, Some(0)).await.unwrap().total;
    assert_eq!(total, Some(3));
    // What is made only when it is not there counts as what is there.
    let mut again = identified("Patient", "1", json!({}));
    again["request"]["ifNoneExist"] = "identifier=s|1".into();
    let entries =
        json!([again, again, identified("CareTeam", "x", json!({"subject": {"reference": "Patient?identifier=s|1"}}))]);
    let answer = repository.transact(bundle("transaction", entries)).await.unwrap();
    assert_eq!(answer.entry[2].resource.clone().unwrap().members()["subject"]["reference"], key(1));
}

async fn a_transaction_keeps_the_rules_of_updates_by_search(place: Place) {
    let Opened { repository, place: _place } = open(place).await;
    let put = |id: Option<&str>, by: &str, if_match: Option<&str>| {
        let mut patient = json!({"resourceType": "Patient", "identifier": [{"system": "s", "value": "1"}]});
        let mut request = json!({"method": "PUT", "url": format!("Patient?identifier=s|{by}")});
        if let Some(id) = id {
            patient["id"] = id.into();
        }
        if let Some(tags) = if_match {
            request["ifMatch"] = tags.into();
        }
        json!({"request": request, "resource": patient})
    };
    let carry_out = async |entries: Value| {
        let answer = repository.transact(bundle("transaction", entries)).await;
        answer.map(|answer| answer.entry[0].resource.clone().unwrap().id().unwrap().to_string())
    };
    assert!(carry_out(json!([put(Some("p"), "1", Some("*"))])).await.is_err());
    assert_eq!(carry_out(json!([put(Some("p"), "1", None)])).await.unwrap(), "p");
    assert_eq!(carry_out(json!([put(None, "1", Some("W/\"7\", W/\"1\""))])).await.unwrap(), "p");
    for entries in [
        json!([put(Some("q"), "1", None)]),
        json!([put(Some("p"), "2", None)]),
        json!([put(None, "1", Some("W/\"7\""))]),
        json!([put(None, "3", None), put(None, "3", None), put(Some("x"), "1", None)]),
    ] {
        assert!(carry_out(entries.clone()).await.is_err(), "{entries}");
    }
    let twice = json!({"fullUrl": "urn:uuid:a", "request": {"method": "POST", "url": "Patient"}, "resource": {"resourceType": "Patient"}});
    let error = carry_out(json!([twice, twice])).await.unwrap_err();
    assert!(error.to_string().contains("Bundle.entry[1].fullUrl"), "{error}");
    assert_eq!(found(&repository, ResourceType::Patient, "").await, ["p"]);
}

async fn a_transaction_does_all_or_nothing_and_a_batch_what_it_can(place: Place) {
    let Opened { repository, place: _place } = open(place).await;
    let good =
        json!({"request": {"method": "POST", "url": "Practitioner"}, "resource": {"resourceType": "Practitioner"}});
    for bad in [
        json!({"request": {"method": "DELETE", "url": "Practitioner/d"}}),
        json!({"request": {"method": "GET", "url": "Practitioner/nobody"}}),
        json!({"request": {"method": "POST", "url": "Practitioner"}, "resource": {"resourceType": "Practitioner", "nonsense": 1}}),
        json!({"request": {"method": "POST", "url": "Practitioner"}, "resource": {"resourceType": "Patient"}}),
        json!({"request": {"method": "PUT", "url": "Practitioner/d", "ifMatch": "W/\"7\""}, "resource": {"resourceType": "Practitioner", "id": "d"}}),
        json!({"request": {"method": "POST", "url": "Communication"}, "resource": {
            "resourceType": "Communication", "status": "completed", "subject": {"reference": "Patient?identifier=none|1"}}}),
        json!({"request": {"method": "POST", "url": "Practitioner"}}),
        json!({"resource": {"resourceType": "Practitioner"}}),
    ] {
        let entries = json!([good, bad]);
        let error = repository.transact(bundle("transaction", entries.clone())).await.unwrap_err();
        assert!(!error.is_temporary(), "{error}");
        assert_eq!(found(&repository, ResourceType::Practitioner, "_summary=count").await.len(), 0);
        let total = repository.search(ResourceType::Practitioner, &query("_count=0")).await.unwrap().total;
        assert_eq!(total, Some(0), "{bad}");
    }
    let twice = json!({"request": {"method": "PUT", "url": "Practitioner/d"}, "resource": {"resourceType": "Practitioner", "id": "d"}});
    assert!(repository.transact(bundle("transaction", json!([twice, twice]))).await.is_err());
    let bad = json!({"request": {"method": "DELETE", "url": "Practitioner/d"}});
    let answer = repository.transact(bundle("batch", json!([good, bad, good]))).await.unwrap();
    let status: Vec<_> = answer.entry.iter().map(|entry| entry.response.clone().unwrap().status.unwrap()).collect();
    assert_eq!(status, ["201 Created", "405 Method Not Allowed", "201 Created"]);
    let mut unless = good.clone();
    unless["request"]["ifNoneExists"] = "identifier=1".into();
    let asks = json!({"request": {"method": "POST", "url": "Communication"}, "resource": {
        "resourceType": "Communication", "status": "completed", "subject": {"reference": "Patient?identifier=s|1"}}});
    let answer = repository.transact(bundle("batch", json!([good, unless, asks]))).await.unwrap();
    let responses: Vec<_> = answer.entry.iter().map(|entry| entry.response.clone().unwrap()).collect();
    let places: Vec<_> = responses[1..]
        .iter()
        .map(|response| response.outcome.clone().unwrap().members()["issue"][0]["expression"][0].clone())
        .collect();
    assert_eq!(places, ["Bundle.entry[1].request.ifNoneExists", "Bundle.entry[2].resource.subject.reference"]);
    assert_eq!(found(&repository, ResourceType::Practitioner, "").await.len(), 3);
    assert!(repository.transact(bundle("collection", json!([]))).await.is_err());
}

async fn an_update_by_search_finds_or_makes_its_resource(place: Place) {
    let Opened { repository, place: _place } = open(place).await;
    let patient = |name: &str| {
        resource(
            json!({"resourceType": "Patient", "name": [{"text": name}], "identifier": [{"system": "s", "value": "1"}]}),
        )
    };
    let by = query("identifier=s|1");
    assert_eq!(repository.update_where(patient("a"), &by, Condition::Always).await.unwrap().effect, Effect::Created);
    let second = repository.update_where(patient("b"), &by, Condition::VersionIs("1")).await.unwrap();
    assert_eq!((second.effect, second.resource.version()), (Effect::Updated, Some("2")));
    for (by, only_if) in [
        (&by, Condition::VersionIs("1")),
        (&by, Condition::Absent),
        (&query("identifier=s|2"), Condition::Tagged(&Tags::Any)),
    ] {
        let error = repository.update_where(patient("x"), by, only_if).await.unwrap_err();
        assert!(matches!(error, FhirError::VersionConflict(_)), "{error}");
    }
    repository.create(patient("c"), None).await.unwrap();
    assert!(matches!(
        repository.update_where(patient("d"), &by, Condition::Always).await,
        Err(FhirError::MultipleMatches(_))
    ));
    assert!(matches!(repository.create(patient("d"), Some(&by)).await, Err(FhirError::MultipleMatches(_))));
    assert!(repository.create(patient("d"), Some(&query("_count=1"))).await.is_err());
    assert!(repository.create(patient("d"), Some(&Query::new())).await.is_err());
}

async fn audit_events_are_never_changed(place: Place) {
    let Opened { repository, place: _place } = open(place).await;
    let event = resource(json!({
        "resourceType": "AuditEvent", "type": {"code": "access"}, "recorded": "2026-11-22T10:00:00Z", "action": "R",
        "agent": [{"requestor": true, "altId": "@a:b"}], "source": {"observer": {"display": "bridge"}},
        "entity": [{"what": {"reference": "Communication/1/_history/1"}}]
    }));
    let mut made = repository.create(event, None).await.unwrap().resource;
    for text in ["entity=Communication/1/_history/1", "entity=Communication/1", "altid=@a:b", "date=2026-11-22"] {
        assert_eq!(found(&repository, ResourceType::AuditEvent, text).await.len(), 1, "{text}");
    }
    made.members_mut().insert("action".into(), "U".into());
    let error = repository.update(made, Condition::Always).await.unwrap_err();
    assert!(matches!(error, FhirError::NotSupported(_)), "{error}");
}

async fn subscriptions_are_owed_what_matches(place: Place) {
    let Opened { repository, place: _place } = open(place).await;
    let subscription = |criteria: &str| {
        resource(json!({
            "resourceType": "Subscription", "status": "active", "reason": "test", "criteria": criteria,
            "channel": {"type": "rest-hook", "endpoint": "http://127.0.0.1:9/hook"}
        }))
    };
    let made = repository.create(subscription("Communication?status=completed"), None).await.unwrap().resource;
    assert_eq!(made.to::<Subscription>().unwrap().status, Some(SubscriptionStatus::Requested));
    let first = repository.owed().await.unwrap();
    assert_eq!(first.len(), 1);
    repository.delivered(first[0].clone()).await.unwrap();
    repository.set_subscription(made.id().unwrap(), SubscriptionStatus::Active, None).await.unwrap();
    assert_eq!(repository.owed().await.unwrap(), []);

    let mut draft = message("$1", "2026");
    draft.members_mut().insert("status".into(), "preparation".into());
    repository.create(draft, None).await.unwrap();
    assert_eq!(repository.owed().await.unwrap(), []);
    repository.create(message("$2", "2026"), None).await.unwrap();
    repository.create(message("$3", "2026"), None).await.unwrap();
    let owed = repository.owed().await.unwrap();
    assert_eq!(owed.len(), 1);
    repository.failed(owed[0].id.clone(), 7).await.unwrap();
    assert_eq!((repository.owed().await.unwrap()[0].attempts, repository.owed().await.unwrap()[0].due), (1, 7));
    repository.delivered(owed[0].clone()).await.unwrap();
    assert_eq!(repository.owed().await.unwrap(), []);

    for wrong in ["Communication?nonsense=1", "Nonsense", "Bundle?_id=1", ""] {
        assert!(repository.create(subscription(wrong), None).await.is_err(), "{wrong}");
    }
    let mut with_payload = subscription("Communication");
    with_payload.members_mut()["channel"]["payload"] = "application/fhir+json".into();
    assert!(repository.create(with_payload, None).await.is_err());
}

/// Two processes on one place: conditions hold between them, and whoever follows one misses nothing of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_keep_conditions_and_cursors_together() {
    let place = Place::postgres();
    let both = [open_named(&place.name()).await, open_named(&place.name()).await];
    let writes = (0..60).map(|number| {
        let (repository, key) = (both[number % 2].clone(), format!("${}", number / 4));
        let unless = Query::identifier("https://matrix.org/event-id", &key);
        tokio::spawn(async move { repository.create(message(&key, "2026"), Some(&unless)).await.unwrap() })
    });
    let follower = async {
        let (mut cursor, mut seen) = (None, Vec::new());
        while seen.len() < 15 {
            let changes = both[0].changes(&[ResourceType::Communication], cursor.as_ref(), 3).await.unwrap();
            seen.extend(changes.resources);
            cursor = Some(changes.next);
            tokio::task::yield_now().await;
        }
        seen
    };
    let (written, seen) = futures_util::future::join(join_all(writes), follower).await;
    let made = written.into_iter().filter(|written| written.as_ref().unwrap().effect == Effect::Created).count();
    assert_eq!((made, seen.len()), (15, 15));
    let moments: Vec<_> =
        seen.iter().map(|resource| resource.last_updated().unwrap().moments().unwrap().start).collect();
    assert!(moments.is_sorted_by(|a, b| a < b), "{moments:?}");
    let absent = both.each_ref().map(|repository| {
        let own = resource(json!({"resourceType": "Practitioner", "id": "d"}));
        repository.update(own, Condition::Absent)
    });
    let made = join_all(absent).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(made, 1);
}

/// Not a test of its own: what `an_acknowledged_write_survives_a_kill` runs in a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "runs until it is killed"]
async fn writes_until_killed() {
    let repository = open_named(&std::env::var("FHIR_TEST_DATABASE").unwrap()).await;
    let writers = (0..8).map(|writer| {
        let repository = repository.clone();
        async move {
            for number in 0.. {
                let event = format!("{writer}/{number}");
                repository.create(message(&event, "2026"), None).await.unwrap();
                println!("acknowledged {event}");
            }
        }
    });
    join_all(writers).await;
}

/// What the database refuses for good is said of the resource; what holds it up is said of the server, and passes.
async fn what_the_database_says_is_of_this_resource_or_of_all(place: Place) {
    let opened = open(place).await;
    let kept = opened.repository.create(message("$kept", "2026"), None).await.unwrap().resource;
    let is_sqlite = matches!(opened.place, Place::Sqlite(_));
    let change = async |sql: &'static str| {
        let changed = opened.repository.write_with(|_, connection| Ok(connection.execute(sql, &[])?)).await;
        changed.unwrap();
    };
    if is_sqlite {
        change(
            "CREATE TRIGGER never BEFORE INSERT ON version WHEN new.content LIKE '%$never%'
             BEGIN SELECT RAISE(ABORT, 'never'); END",
        )
        .await;
    } else {
        change("ALTER TABLE version ADD CONSTRAINT never CHECK (content NOT LIKE '%$never%')").await;
    }
    let refused = opened.repository.create(message("$never", "2026"), None).await.unwrap_err();
    assert!(matches!(refused, FhirError::Refused(_)) && !refused.is_temporary(), "{refused}");
    let (status, outcome) = crate::fhir::outcome::of(&refused);
    assert_eq!((status.as_u16(), outcome.issue.len()), (422, 1));
    assert!(!outcome.summary().contains("never"), "{}", outcome.summary());
    // One of a batch takes none with it.
    let entry = |event: &str| json!({ "resource": message(event, "2026"), "request": { "method": "POST", "url": "Communication" } });
    let batch: Bundle = serde_json::from_value(
        json!({ "resourceType": "Bundle", "type": "batch", "entry": [entry("$never"), entry("$other")] }),
    )
    .unwrap();
    let answers = opened.repository.transact(batch).await.unwrap().entry;
    let statuses: Vec<_> = answers.iter().filter_map(|one| one.response.as_ref()?.status.clone()).collect();
    assert!(statuses[0].starts_with("422") && statuses[1].starts_with("201"), "{statuses:?}");

    // What is stored cannot be read; all the rest can.
    let other = opened.repository.create(message("$whole", "2026"), None).await.unwrap().resource;
    change("UPDATE version SET content = 'x' WHERE seq = (SELECT min(seq) FROM version)").await;
    let read = async |resource: &Resource| {
        FhirServer::read(&opened.repository, ResourceType::Communication, &resource.id().unwrap()).await
    };
    let damaged = read(&kept).await.unwrap_err();
    assert!(matches!(damaged, FhirError::Damaged(_)) && !damaged.is_temporary(), "{damaged}");
    assert_eq!(crate::fhir::outcome::of(&damaged).0.as_u16(), 500);
    assert_eq!(read(&other).await.unwrap(), other);
    // Nor does what follows wait for whoever reads what changed.
    let changes = opened.repository.changes(&[ResourceType::Communication], None, 10).await.unwrap();
    assert_eq!(changes.damaged, [kept.versioned_key().unwrap()]);
    assert_eq!((changes.resources.len(), changes.resources.last()), (2, Some(&other)));

    // A right that is missing is for somebody to mend: nothing is refused meanwhile.
    for (error, is_away) in [
        (DatabaseError::Denied(String::new()), true),
        (DatabaseError::Hindered(String::new()), true),
        (DatabaseError::Unreachable(String::new()), true),
        (DatabaseError::GaveUp(String::new()), false),
    ] {
        let said = FhirError::from(error);
        assert!(said.is_temporary() && matches!(said, FhirError::Unavailable(_)) == is_away, "{said}");
    }
}

async fn an_acknowledged_write_survives_a_kill(place: Place) {
    use std::{io::BufRead as _, process};
    let mut acknowledged: Vec<String> = Vec::new();
    for wanted in [1, 40, 200] {
        let name = "fhir::repository::tests::writes_until_killed";
        let mut child = process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--ignored", "--nocapture"])
            .env("FHIR_TEST_DATABASE", place.name())
            .stdout(process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let is_one = |line: &String| line.contains("acknowledged ");
        acknowledged.extend(lines.by_ref().filter(is_one).take(wanted));
        child.kill().unwrap();
        // What was still in the pipe was acknowledged too; the last line may be cut off.
        acknowledged.extend(lines.filter(is_one).filter(|line| line.matches('/').count() == 1));
        child.wait().unwrap();

        let repository = open_named(&place.name()).await;
        let total = repository.search(ResourceType::Communication, &query("_count=0")).await.unwrap().total.unwrap();
        assert!(usize::try_from(total).unwrap() + 1 >= acknowledged.len(), "{total} of {}", acknowledged.len());
        for line in acknowledged.iter().rev().skip(1).take(20) {
            let event = line.split("acknowledged ").nth(1).unwrap();
            let found = repository
                .search(ResourceType::Communication, &Query::identifier("https://matrix.org/event-id", event))
                .await;
            assert!(!found.unwrap().entries.is_empty(), "{event}");
        }
        if let Place::Sqlite(_) = &place {
            let check = repository.read_with(|_, connection| {
                Ok(connection.first("PRAGMA integrity_check", &[], |row| row.get::<String>(0))?)
            });
            assert_eq!(check.await.unwrap().as_deref(), Some("ok"));
        }
    }
}
