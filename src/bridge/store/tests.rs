use std::path::Path;

use super::*;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("bridge.sqlite")
    }

    fn open(&self) -> Sqlite {
        Sqlite::open(&self.path(), Mode::Serve).unwrap()
    }
}

fn work(lane: &str, payload: &str) -> NewWork {
    NewWork { side: Side::Matrix, lane: lane.to_owned(), kind: "test", payload: payload.to_owned(), not_before: 0 }
}

fn event(id: &str, lane: &str) -> Change {
    Change::TakeEvent { event_id: id.to_owned(), room_id: lane.to_owned(), work: Some(work(lane, id)) }
}

async fn payloads(store: &Sqlite, lane: &str) -> Vec<String> {
    store.head(Side::Matrix, lane, 100).await.unwrap().into_iter().map(|work| work.payload).collect()
}

async fn claim_one(store: &Sqlite) -> Lease {
    let mut leases = store.claim(Side::Matrix, 1, 100, 1000).await.unwrap();
    assert_eq!(leases.len(), 1);
    leases.remove(0)
}

#[tokio::test]
async fn an_event_that_comes_twice_is_work_once() {
    let place = Place::new();
    let store = place.open();
    store.commit(vec![event("$1", "a"), event("$2", "a")]).await.unwrap();
    store.commit(vec![event("$2", "a"), event("$3", "a")]).await.unwrap();
    assert_eq!(payloads(&store, "a").await, ["$1", "$2", "$3"]);
    let once = || Change::Once { key: "Communication/1/2".to_owned(), work: work("b", "x") };
    store.commit(vec![once(), once()]).await.unwrap();
    store.commit(vec![once()]).await.unwrap();
    assert_eq!(payloads(&store, "b").await, ["x"]);
}

#[tokio::test]
async fn a_lane_is_leased_to_one_and_comes_back_when_the_lease_ends() {
    let place = Place::new();
    let store = place.open();
    store.commit(vec![event("$1", "a"), event("$2", "b")]).await.unwrap();
    let leases = store.claim(Side::Matrix, 10, 100, 1000).await.unwrap();
    assert_eq!(leases.len(), 2);
    assert!(leases.iter().all(|lease| !lease.suspect));
    assert!(store.claim(Side::Matrix, 10, 999, 2000).await.unwrap().is_empty());
    assert!(store.claim(Side::Fhir, 10, 999, 2000).await.unwrap().is_empty());
    // Nobody knows what the first owner did before its lease ran out.
    let later = store.claim(Side::Matrix, 10, 1000, 2000).await.unwrap();
    assert!(later.len() == 2 && later.iter().all(|lease| lease.suspect));
    // A late word of the first owner changes nothing.
    let release = Change::Release { lease: leases[0].clone(), next_try: 0, suspect: false };
    store.commit(vec![release]).await.unwrap();
    assert!(store.claim(Side::Matrix, 10, 1500, 2000).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_lane_that_is_done_is_gone_and_one_that_failed_comes_back_later() {
    let place = Place::new();
    let store = place.open();
    store.commit(vec![event("$1", "a")]).await.unwrap();
    let lease = claim_one(&store).await;
    let seq = store.head(Side::Matrix, "a", 1).await.unwrap()[0].seq;
    let refused = Change::Refused { seq, reason: "403".to_owned() };
    store.commit(vec![refused, Change::Release { lease, next_try: 500, suspect: true }]).await.unwrap();
    assert!(store.claim(Side::Matrix, 1, 499, 1000).await.unwrap().is_empty());
    let lease = store.claim(Side::Matrix, 1, 500, 1000).await.unwrap().remove(0);
    assert!(lease.suspect);
    assert_eq!(store.head(Side::Matrix, "a", 1).await.unwrap()[0].attempts, 1);
    store.commit(vec![Change::Done { seq }, Change::Release { lease, next_try: 0, suspect: false }]).await.unwrap();
    assert!(store.claim(Side::Matrix, 1, 9000, 9999).await.unwrap().is_empty());
    assert_eq!(store.overview().await.unwrap().ready, [0, 0]);
}

#[tokio::test]
async fn waiting_work_keeps_its_place() {
    let place = Place::new();
    let store = place.open();
    store.commit(vec![event("$1", "a"), event("$2", "a")]).await.unwrap();
    let first = store.head(Side::Matrix, "a", 1).await.unwrap()[0].seq;
    let need = Need::Room("CommunicationRequest/1".to_owned());
    store.commit(vec![Change::Wait { seq: first, need: need.clone() }]).await.unwrap();
    assert_eq!(payloads(&store, "a").await, ["$2"]);
    assert_eq!(store.held(10).await.unwrap()[0].reason, "waits for room CommunicationRequest/1");
    let link = RoomLink { room_id: "!1".to_owned(), place: "CommunicationRequest/1".to_owned() };
    store.commit(vec![Change::LinkRoom(link.clone())]).await.unwrap();
    assert_eq!(payloads(&store, "a").await, ["$1", "$2"]);
    // What is there already is not waited for.
    store.commit(vec![Change::Wait { seq: first, need }]).await.unwrap();
    assert_eq!(payloads(&store, "a").await, ["$1", "$2"]);
    assert_eq!(store.place_of("!1").await.unwrap(), Some(link));
}

#[tokio::test]
async fn work_that_woke_in_a_lane_that_was_gone_is_claimed() {
    let place = Place::new();
    let store = place.open();
    store.commit(vec![event("$1", "a")]).await.unwrap();
    let lease = claim_one(&store).await;
    let seq = store.head(Side::Matrix, "a", 1).await.unwrap()[0].seq;
    let wait = Change::Wait { seq, need: Need::Event("$0".to_owned()) };
    store.commit(vec![wait, Change::Release { lease, next_try: 0, suspect: false }]).await.unwrap();
    assert!(store.claim(Side::Matrix, 1, 100, 1000).await.unwrap().is_empty());
    store
        .commit(vec![Change::TakeEvent { event_id: "$0".to_owned(), room_id: "!".to_owned(), work: None }])
        .await
        .unwrap();
    assert_eq!(claim_one(&store).await.lane, "a");
}

#[tokio::test]
async fn parked_work_lets_others_pass_and_can_be_retried() {
    let place = Place::new();
    let store = place.open();
    store.commit(vec![event("$1", "a"), event("$2", "a")]).await.unwrap();
    let first = store.head(Side::Matrix, "a", 1).await.unwrap()[0].seq;
    store.commit(vec![Change::Park { seq: first, reason: "M_FORBIDDEN".to_owned() }]).await.unwrap();
    assert_eq!(payloads(&store, "a").await, ["$2"]);
    assert_eq!(store.overview().await.unwrap().parked, 1);
    store.commit(vec![Change::Retry { seq: None }]).await.unwrap();
    assert_eq!(payloads(&store, "a").await, ["$1", "$2"]);
}

#[tokio::test]
async fn work_for_soon_stands_once_and_in_its_time() {
    let place = Place::new();
    let store = place.open();
    let soon = |due| Change::Soon(NewWork { not_before: due, ..work("gaps", "{}") });
    store.commit(vec![soon(500), soon(100)]).await.unwrap();
    assert_eq!(payloads(&store, "gaps").await.len(), 1);
    assert!(store.claim(Side::Matrix, 1, 499, 1000).await.unwrap().is_empty());
    assert_eq!(store.claim(Side::Matrix, 1, 500, 1000).await.unwrap().len(), 1);
    // What is worked on may be past the point: one more stands behind it.
    store.commit(vec![soon(100), soon(100)]).await.unwrap();
    assert_eq!(payloads(&store, "gaps").await.len(), 2);
}

#[tokio::test]
async fn a_unit_is_stored_as_a_whole_or_not_at_all() {
    let place = Place::new();
    let store = place.open();
    let link =
        |place: &str, room: &str| Change::LinkRoom(RoomLink { room_id: room.to_owned(), place: place.to_owned() });
    store.commit(vec![event("$1", "a"), link("CareTeam/1", "!1")]).await.unwrap();
    // A text with a zero byte is refused by the JSON check of nobody here, but a closed writer is: see below.
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    connection
        .execute_batch("CREATE TRIGGER no BEFORE INSERT ON room WHEN NEW.place = 'CareTeam/2' BEGIN SELECT RAISE(ABORT, 'no'); END")
        .unwrap();
    let (bad, good) = tokio::join!(
        store.commit(vec![event("$2", "a"), link("CareTeam/2", "!2")]),
        store.commit(vec![event("$3", "a")]),
    );
    assert!(bad.is_err() && good.is_ok());
    assert_eq!(payloads(&store, "a").await, ["$1", "$3"]);
}

#[tokio::test]
async fn messages_are_found_by_event_resource_and_place_in_the_room() {
    let place = Place::new();
    let store = place.open();
    let link = |event_id: &str, resource: &str| {
        Change::LinkMessage(MessageLink {
            event_id: event_id.to_owned(),
            room_id: "!1".to_owned(),
            resource: resource.to_owned(),
            part: 0,
            role: Role::Message,
            origin: Origin::Fhir,
            digest: "d".to_owned(),
        })
    };
    let arrival = |id: &str| Change::TakeEvent { event_id: id.to_owned(), room_id: "!1".to_owned(), work: None };
    store
        .commit(vec![link("$1", "Communication/1"), arrival("$1"), arrival("$2"), link("$3", "Communication/3")])
        .await
        .unwrap();
    store.commit(vec![arrival("$4")]).await.unwrap();
    let at = |event: &'static str| store.newest_message_at("!1", event);
    assert_eq!(at("$2").await.unwrap().unwrap().resource, "Communication/1");
    assert_eq!(at("$4").await.unwrap().unwrap().resource, "Communication/3");
    assert_eq!(at("$5").await.unwrap(), None);
    assert!(store.arrived_after("$3", "$1").await.unwrap() && !store.arrived_after("$1", "$3").await.unwrap());
    assert_eq!(store.messages_of("Communication/3").await.unwrap()[0].event_id, "$3");
    let unknown = store.unknown_events(["$4", "$9"].map(str::to_owned).to_vec()).await.unwrap();
    assert_eq!(unknown, ["$9"]);
}

#[tokio::test]
async fn one_bridge_at_a_time_serves() {
    let place = Place::new();
    let _first = place.open();
    let failure = Sqlite::open(&place.path(), Mode::Serve).err().unwrap();
    assert!(failure.to_string().starts_with("another fhir-bridge serves from "));
    assert!(Sqlite::open(&place.path(), Mode::Visit).is_ok());
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_left_alone() {
    let place = Place::new();
    drop(place.open());
    rusqlite::Connection::open(place.path()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let failure = Sqlite::open(&place.path(), Mode::Visit).err().unwrap();
    assert!(failure.to_string().contains("newer fhir-bridge"), "{failure}");
}

/// Name of the variable that makes the test below the victim of the test above it.
const VICTIM: &str = "CARE_FEDERATION_STORE_VICTIM";

#[test]
fn what_was_acknowledged_survives_kill_9() {
    use std::io::{BufRead as _, BufReader};
    let place = Place::new();
    for _ in 0..3 {
        let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["bridge::store::tests::a_victim_of_kill_9", "--exact", "--nocapture"])
            .env(VICTIM, place.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let mut acknowledged = Vec::new();
        for line in lines {
            let line = line.unwrap();
            if let Some((_, id)) = line.split_once("stored ") {
                acknowledged.push(id.to_owned());
            }
            if acknowledged.len() == 200 {
                victim.kill().unwrap();
                break;
            }
        }
        victim.wait().unwrap();
        assert_eq!(acknowledged.len(), 200);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = place.open();
        let lost = runtime.block_on(store.unknown_events(acknowledged)).unwrap();
        assert_eq!(lost, Vec::<String>::new());
        // The lane was leased to the dead process; it is free again, and known to be in doubt.
        let leases = runtime.block_on(store.claim(Side::Matrix, 1, i64::MAX - 1, i64::MAX)).unwrap();
        assert!(leases[0].suspect);
        drop(store);
    }
}

#[test]
fn a_victim_of_kill_9() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Sqlite::open(Path::new(&path), Mode::Serve).unwrap();
        let run = std::process::id();
        store.commit(vec![event(&format!("${run}"), "a")]).await.unwrap();
        store.claim(Side::Matrix, 1, i64::MAX - 1, i64::MAX).await.unwrap();
        for number in 0_u64.. {
            let id = format!("${run}-{number}");
            store.commit(vec![event(&id, "a")]).await.unwrap();
            println!("stored {id}");
        }
    });
}

#[tokio::test]
async fn people_see_lanes_and_held_work_page_by_page() {
    let place = Place::new();
    let store = place.open();
    store.commit(vec![event("$1", "a"), event("$2", "b"), event("$3", "b"), event("$4", "c")]).await.unwrap();
    let lease = claim_one(&store).await;
    let lanes = store.lanes(10).await.unwrap();
    let seen: Vec<_> = lanes.iter().map(|lane| (lane.name.as_str(), lane.ready, lane.leased)).collect();
    assert_eq!(seen, [("a", 1, lease.lane == "a"), ("b", 2, lease.lane == "b"), ("c", 1, lease.lane == "c")]);
    assert_eq!(store.lanes(1).await.unwrap()[0].kind, "test");

    let seqs = [
        store.head(Side::Matrix, "a", 1).await.unwrap()[0].seq,
        store.head(Side::Matrix, "b", 1).await.unwrap()[0].seq,
    ];
    let need = Need::Event("$none".to_owned());
    let changes = vec![Change::Park { seq: seqs[0], reason: "no".to_owned() }, Change::Wait { seq: seqs[1], need }];
    store.commit(changes).await.unwrap();
    let all = store.held_after(None, 0, 10).await.unwrap();
    assert_eq!(all.iter().map(|held| (held.seq, held.parked)).collect::<Vec<_>>(), [(seqs[0], true), (seqs[1], false)]);
    assert_eq!(store.held_after(None, seqs[0], 10).await.unwrap(), all[1..]);
    assert_eq!(store.held_after(None, 0, 1).await.unwrap(), all[..1]);
    let of = |lanes: &[&str]| Some(lanes.iter().map(|lane| (*lane).to_owned()).collect());
    assert_eq!(store.held_after(of(&["b", "c"]), 0, 10).await.unwrap(), all[1..]);
    assert!(store.held_after(of(&[]), 0, 10).await.unwrap().is_empty());
    assert_eq!(store.lanes(10).await.unwrap().iter().map(|lane| lane.ready).collect::<Vec<_>>(), [1, 1]);
}
