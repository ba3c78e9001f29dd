//! `up` and `demo`: the network runs as long as this program does.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Options, Start, interrupted, verify};
use crate::{
    lab::{
        bridge,
        control::{Lock, Phase, Running},
        element,
        install::Synapse,
        places::Places,
        ports,
        setup::{self, Setup},
        supervisor::{Event, Supervisor},
        users::{User, Users},
    },
    pki::Authority,
    service::{
        failure::{Failure, Status, explain},
        network::Network,
    },
};

/// Time for the ports of a lab that has just ended to become free.
const PORT_PATIENCE: Duration = Duration::from_secs(3);
/// How often certificates are looked at while the network runs. They are renewed a month before they end.
const RENEW_EVERY: Duration = Duration::from_secs(6 * 3600);
/// Wait before a status that could not be written is written again.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// A network that runs.
struct Lab {
    lock: Lock,
    places: Places,
    network: Network,
    synapse: Synapse,
    supervisor: Supervisor,
    phase: Phase,
    element: bool,
}

/// Brings the network up, plays the scenario, and stops it.
pub(super) async fn demo(
    options: &Options,
    start: &Start,
    output: &verify::Output,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let (lab, _) = Lab::start(options, start, stop).await?;
    let target = lab.target();
    let played = tokio::select! {
        played = verify::play(&target, output) => played,
        () = stop.cancelled() => Err(interrupted().into()),
    };
    lab.stop().await;
    let report = played?;
    let result = verify::conclude(&report, output);
    if result.is_ok() && !output.json {
        println!("Set-up, proof and stop took {:.1} s. Nothing is left running.", began.elapsed().as_secs_f64());
        println!("Next: `federation-lab up` leaves the network running for you to use.");
    }
    result
}

/// Brings the network up and keeps it up until it is told to stop.
pub(super) async fn up(options: &Options, start: &Start, stop: &CancellationToken) -> anyhow::Result<()> {
    let began = Instant::now();
    let (mut lab, users) = Lab::start(options, start, stop).await?;
    println!("The network is up after {:.1} s.\n", began.elapsed().as_secs_f64());
    lab.show(&users);
    let result = lab.keep(stop).await;
    eprintln!("Stopping …");
    lab.stop().await;
    result
}

// === impl Lab ===

impl Lab {
    async fn start(options: &Options, start: &Start, stop: &CancellationToken) -> anyhow::Result<(Self, Users)> {
        let places = options.places()?;
        let lock = Lock::take(&places)?;
        let network = start.port_offset.choose(options.network()?)?;
        ports::check(&network, PORT_PATIENCE)?;
        let element = async {
            tokio::select! {
                found = element::obtain(&places, start.element.as_deref()) => found,
                () = stop.cancelled() => Err(interrupted()),
            }
        };
        let (synapse, element) = tokio::join!(Synapse::obtain(&places, stop), element);
        let (synapse, element) = (synapse?, element?);
        let setup = Setup::prepare(&places, &network, &synapse, element.as_deref())?;
        let names = setup.services.iter().map(|service| service.program.name.as_str());
        eprintln!("Starting {} …", names.collect::<Vec<_>>().join(", "));
        let supervisor = Supervisor::start(setup.services);
        let element = element.is_some();
        let mut lab = Self { lock, places, network, synapse, supervisor, phase: Phase::Starting, element };
        match lab.make_ready(stop).await {
            Ok(users) => Ok((lab, users)),
            Err(error) => {
                lab.stop().await;
                Err(error)
            }
        }
    }

    /// Waits until all serve, and makes the users.
    async fn make_ready(&mut self, stop: &CancellationToken) -> anyhow::Result<Users> {
        self.tell()?;
        let work = async {
            while !self.supervisor.all_ready() {
                if let Some(Event::Failed { failure, .. }) = self.supervisor.next_event().await {
                    return Err(failure.into());
                }
                self.tell()?;
            }
            let mut users = Users::read(&self.places)?;
            users.ensure(&self.places, &self.network, &Users::everybody(&self.network)).await?;
            self.phase = Phase::Up;
            self.tell()?;
            Ok(users)
        };
        tokio::select! {
            done = work => done,
            () = stop.cancelled() => Err(interrupted().into()),
        }
    }

    /// Tells other terminals.
    fn tell(&self) -> Result<(), Failure> {
        self.lock.tell(&self.running())
    }

    fn running(&self) -> Running {
        Running {
            process: std::process::id(),
            phase: self.phase,
            network: self.network.clone(),
            synapse: self.synapse.command.iter().map(|part| part.to_string_lossy().into_owned()).collect(),
            programs: self.supervisor.states().clone(),
        }
    }

    fn target(&self) -> crate::lab::scenario::Target {
        verify::of_lab(&self.places, &self.running())
    }

    async fn stop(self) {
        // The lock is given back last, when nothing runs any more.
        let Self { lock, supervisor, .. } = self;
        supervisor.stop().await;
        drop(lock);
    }

    /// Says what crashes and what comes back, and renews certificates, until told to stop. What cannot be written down
    /// now is no reason to end a network that works.
    async fn keep(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut renewals = tokio::time::interval(RENEW_EVERY);
        let mut told = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(TELL_AGAIN), if !told => told = self.tell().is_ok(),
                _ = renewals.tick() => {
                    _ = warn("certificates", setup::certify(&self.places, &self.network));
                }
                event = self.supervisor.next_event() => match event {
                    Some(event) => {
                        say(event);
                        told = warn("status", self.tell());
                    }
                    None => return Err(Failure::new(Status::Unavailable, "no program is left to keep running").into()),
                },
            }
        }
    }

    fn show(&self, users: &Users) {
        let network = &self.network;
        println!("{:<14} {:<36} with the CA, where the name is known", "server", "in a browser on this machine");
        for name in network.names() {
            let (browser, secure) = (setup::browser_address(network, name), setup::secure_address(network, name));
            println!("{name:<14} {browser:<36} {secure}");
        }
        for (name, organisation) in &network.organisations {
            if let Some(port) = organisation.client_port.filter(|_| self.element) {
                println!("\nElement Web for {name}: http://localhost:{port}");
            }
        }
        for (name, organisation) in &network.organisations {
            if let Some(port) = organisation.bridge_port {
                println!("\nFHIR R4 endpoint of {name}, carried to Matrix and back: {}", bridge::fhir_address(port));
            }
        }
        println!("\n{:<24} password", "user");
        for (id, user) in users.iter() {
            println!("{id:<24} {}{}", user.password().expose(), administrator(user));
        }
        let names: Vec<&str> = network.names().collect();
        println!(
            "\nAny Matrix client on this machine can use the first column as its homeserver. For the https addresses,\n\
             add the line `127.0.0.1 {}` to /etc/hosts and trust the authority in\n{}",
            names.join(" "),
            Authority::certificate_path(&self.places.authority()).display()
        );
        println!(
            "\nIn another terminal: federation-lab status, logs, users add, verify, down. Ctrl-C stops the network."
        );
        println!("Its state is in {}", self.places.state().display());
    }
}

fn administrator(user: &User) -> &'static str {
    if user.admin { "   (administrator)" } else { "" }
}

/// Says what failed, and that it is no more than that; whether all went well.
fn warn(about: &str, outcome: Result<(), Failure>) -> bool {
    let Err(failure) = outcome else { return true };
    eprintln!("{}\n  The network goes on; this is tried again later.", explain(about, &failure.into()));
    false
}

fn say(event: Event) {
    match event {
        Event::Started { name, .. } => eprintln!("{name}: started again"),
        Event::Ready { name, took } => eprintln!("{name}: serves after {:.1} s", took.as_secs_f64()),
        Event::Failed { failure, again_in, .. } => {
            let remedy = failure.remedy_text().unwrap_or_default().to_owned();
            eprintln!("{failure}; starting it again in {:.1} s. {remedy}", again_in.as_secs_f64());
        }
    }
}
