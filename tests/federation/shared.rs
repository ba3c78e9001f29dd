//! The network that all tests share that change nothing in it: four organisations, one more than the lab declares.

use std::sync::OnceLock;

use care_federation::service::network::{LAB, Network};

use super::lab::{Lab, Running};

pub(crate) struct Shared {
    pub(crate) lab: Lab,
    pub(crate) network: Network,
    _up: std::sync::Mutex<Running>,
}

/// The running network; started by the first test that asks, and ended by the kernel with the tests.
pub(crate) fn network() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let lab = Lab::new();
        let four = format!("{LAB}\n[organisations.ggz]\ndisplay_name = \"GGZ\"\nhomeserver_port = 8048\n");
        let four = lab.write("four.toml", &four);
        let element = lab.element();
        let arguments = ["up", "--port-offset", "auto", "--element", element.to_str().unwrap()];
        let mut command = lab.command(&arguments);
        command.arg("--network").arg(four);
        let mut up = Running::start(&command);
        up.wait_for("The network is up");
        Shared { network: lab.network(), lab, _up: up.into() }
    })
}
