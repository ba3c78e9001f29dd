//! `verify`: the scenario on the lab that runs, or on any other network.

use std::path::PathBuf;

use clap::Args;

use super::Options;
use crate::{
    lab::{
        bridge,
        control::Running,
        places::Places,
        scenario::{self, BridgeTarget, Report, Silent, StrangerTarget, Target, TargetServer, Teller},
        setup,
    },
    pki::Authority,
    service::{
        failure::{Failure, Status},
        files,
    },
};

/// What is verified, and how it is told.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A file that describes the network [default: the lab that runs]
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// How a report is told.
#[derive(Clone, Debug, Args)]
pub(super) struct Output {
    /// Print the report as JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
    /// Also write the report as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

pub(super) async fn run(options: &Options, arguments: &Arguments) -> anyhow::Result<()> {
    let target = match &arguments.target {
        Some(path) => Target::read(path)?,
        None => {
            let places = options.places()?;
            of_lab(&places, &Running::require(&places)?)
        }
    };
    let report = play(&target, &arguments.output).await?;
    conclude(&report, &arguments.output)
}

/// Plays the scenario, telling of each step as it ends unless JSON was asked for.
pub(super) async fn play(target: &Target, output: &Output) -> anyhow::Result<Report> {
    if output.json {
        scenario::play(target, Silent).await
    } else {
        scenario::play(target, Teller::new(target.logs())).await
    }
}

/// Writes and prints the report; an error when a step failed.
pub(super) fn conclude(report: &Report, output: &Output) -> anyhow::Result<()> {
    if let Some(path) = &output.junit {
        files::write(path, report.junit().as_bytes(), files::PUBLIC)?;
    }
    if output.json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        println!("\n{}", report.summary());
    }
    if report.passed() {
        return Ok(());
    }
    let first = report.failures().next();
    let what = first.map_or_else(|| "no step was taken".to_owned(), |step| format!("“{}” failed", step.name));
    let failure = Failure::new(Status::Failed, what);
    Err(match first {
        Some(step) => failure.because(step.detail.clone()).into(),
        None => failure.into(),
    })
}

/// The running lab as a target.
pub(super) fn of_lab(places: &Places, running: &Running) -> Target {
    let network = &running.network;
    let local = |port: u16| std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
    let server = |name: &str, homeserver_port: u16| TargetServer {
        address: Some(setup::secure_address(network, name)),
        connect: Some(local(network.proxy.federation_port)),
        admin_address: Some(format!("http://{}", local(homeserver_port))),
        registration_secret_file: Some(places.registration_secret(name)),
        admin_token_file: None,
        log: Some(places.log(name)),
    };
    let pairs = Authority::pairs(&places.authority());
    // Any member's pair will do: it is shown under a name that is nobody's.
    let stranger = network.names().next().map(|name| StrangerTarget {
        synapse: running.synapse.clone(),
        certificate: pairs.certificate_path(name),
        key: pairs.key_path(name),
    });
    Target {
        certificate_authority: Authority::certificate_path(&places.authority()),
        egress: Some(local(network.proxy.egress_port)),
        servers: network
            .organisations
            .iter()
            .map(|(name, organisation)| (name.clone(), server(name, organisation.homeserver_port)))
            .collect(),
        // A network may have more; one is played.
        bridge: bridge::all(places, network).first().map(|bridge| BridgeTarget {
            fhir: bridge::fhir_address(bridge.port),
            token_file: None,
            log: Some(places.log(&bridge::program_name(&bridge.server))),
        }),
        stranger,
    }
}
