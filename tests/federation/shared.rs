//! The network that all tests share that change nothing in it: four organisations, one more than the lab declares.

use std::sync::OnceLock;

use care_federation::service::network::{LAB, Network};

use super::lab::{Lab, Running};

pub(crate) struct Shared {
    pub(crate) lab: Lab,
    pub(crate) network: Network,
    _up: std::sync::Mutex<Running>,
}

/// The running network; started by the first test that asks. A static is never dropped, but the kernel ends the
/// network with the tests, and the next run of the tests removes what it left.
pub(crate) fn network() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        remove_leftovers();
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

/// Removes the state of earlier runs whose networks have ended: nobody holds their lock.
fn remove_leftovers() {
    for entry in std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).unwrap().flatten() {
        let lock = entry.path().join("state/lock");
        if std::fs::File::open(lock).is_ok_and(|lock| lock.try_lock().is_ok()) {
            std::fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}
