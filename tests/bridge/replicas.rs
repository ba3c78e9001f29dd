//! Several bridges on one PostgreSQL, behind one address: any of them may be killed at any moment.

use std::{
    fs,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    crash::{beginning_with, communications, settled},
    postgres,
    scenario::{accept, communication, introduce},
    world::{World, free_ports, place, until},
};

/// Two bridges.
struct Replicas {
    ports: [u16; 2],
    admin: [u16; 2],
    children: [Option<Child>; 2],
}

// === impl Replicas ===

impl Replicas {
    /// None runs yet. Whoever connects with the world's bridge gets one that runs, each time another.
    async fn behind(world: &World) -> Self {
        let [one, other, admin, other_admin] = free_ports();
        let front = TcpListener::bind(("127.0.0.1", world.bridge_port)).await.unwrap();
        tokio::spawn(share(front, [one, other]));
        Self { ports: [one, other], admin: [admin, other_admin], children: [None, None] }
    }

    async fn start(&mut self, world: &World, number: usize) {
        let log = fs::OpenOptions::new().create(true).append(true).open(log_of(world, number)).unwrap();
        let mut command = world.command(&["run"]);
        command
            // Each has a directory of its own; the registration is one.
            .env("FHIR_BRIDGE_STATE_DIRECTORY", world.path(&format!("replica-{number}")))
            .env("FHIR_BRIDGE_REGISTRATION", world.path("state").join("registration.yaml"))
            .env("FHIR_BRIDGE_LISTEN", format!("[\"127.0.0.1:{}\"]", self.ports[number]))
            .env("FHIR_BRIDGE_ADMIN", format!("[\"127.0.0.1:{}\"]", self.admin[number]));
        self.children[number] = Some(command.stderr(log).stdout(Stdio::null()).spawn().unwrap());
        let url = format!("http://127.0.0.1:{}/healthz", self.admin[number]);
        until("the replica serves", || async { world.http.get(&url).send().await.ok().map(drop) }).await;
    }

    async fn connected(&self, world: &World, number: usize) {
        let url = format!("http://127.0.0.1:{}/healthz", self.admin[number]);
        let is_well = || async { world.http.get(&url).send().await.ok()?.error_for_status().ok().map(drop) };
        until("the replica is connected", is_well).await;
    }

    fn kill(&mut self, number: usize) {
        let mut child = self.children[number].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn log_of(world: &World, number: usize) -> std::path::PathBuf {
    world.path(&format!("replica-{number}.log"))
}

/// Hands each connection to the next of those that take it.
async fn share(front: TcpListener, ports: [u16; 2]) {
    let turn = Arc::new(AtomicUsize::new(0));
    loop {
        let (mut caller, _) = front.accept().await.unwrap();
        let first = turn.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            for port in [ports[first % 2], ports[(first + 1) % 2]] {
                if let Ok(mut replica) = TcpStream::connect(("127.0.0.1", port)).await {
                    let _ = tokio::io::copy_bidirectional(&mut caller, &mut replica).await;
                    return;
                }
            }
        });
    }
}

/// Writes a resource as a careful client does: until it is told that it is there.
async fn write(world: &World, resource: Value) {
    let url = format!("{}/{}", world.fhir(), place(&resource));
    until("a resource is written", || async {
        let put = world.http.put(&url).header("content-type", "application/fhir+json").body(resource.to_string());
        put.send().await.ok()?.error_for_status().ok().map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_bridges_share_the_work_and_either_may_be_killed() {
    let mut world = World::new();
    world.settings.push(("FHIR_BRIDGE_DATABASE__URL", postgres::fresh_database()));
    world.settings.push(("FHIR_BRIDGE_ENGINE__LEASE_SECONDS", "3".to_owned()));
    assert!(world.output(&["registration"]).contains("registration was made"));
    world.start_fhir_server().await;
    let mut replicas = Replicas::behind(&world).await;
    replicas.start(&world, 0).await;
    introduce(&world).await;
    replicas.start(&world, 1).await;
    world.start_homeserver().await;
    replicas.connected(&world, 0).await;
    replicas.connected(&world, 1).await;
    let anna = world.person("anna").await;
    let (_, room) = accept(&world, &anna).await;

    let (mut to_matrix, mut to_fhir) = (Vec::new(), Vec::new());
    for round in 0..4 {
        for number in 0..10 {
            if number == 5 {
                // In the middle of the work one dies; the other goes on, and it comes back.
                replicas.kill(round % 2);
            }
            let (out, back) = (format!("fhir {round}-{number}"), format!("matrix {round}-{number}"));
            let mut message = communication(&format!("c-{round}-{number}"), &out);
            message.as_object_mut().unwrap().remove("sent");
            write(&world, message).await;
            anna.say(&room, &back).await;
            to_matrix.push(out);
            to_fhir.push(back);
        }
        replicas.start(&world, round % 2).await;
    }
    settled(&world, &anna, &room, to_matrix.len(), to_fhir.len()).await;
    // A last one in each direction: what would come twice has come by then.
    write(&world, communication("last", "fhir last")).await;
    anna.say(&room, "matrix last").await;
    settled(&world, &anna, &room, to_matrix.len() + 1, to_fhir.len() + 1).await;
    to_matrix.push("fhir last".to_owned());
    to_fhir.push("matrix last".to_owned());
    assert_eq!(beginning_with(&anna.texts(&room).await, "fhir "), to_matrix);
    assert_eq!(communications(&world, "matrix ").await, to_fhir);
    let status = world.output(&["status"]);
    assert!(status.contains("0 parked"), "{status}");
    for number in 0..2 {
        let log = fs::read_to_string(log_of(&world, number)).unwrap();
        assert!(log.contains("a transaction of the homeserver"), "replica {number} took none:\n{log}");
    }
}
