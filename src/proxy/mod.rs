//! Floor 2: TLS by server name, plain HTTP by Host, federation policy, egress.
//!
//! A thread a core ([`worker`]) accepts connections and keeps them: from the first byte to the last a request stays on
//! one thread and, over HTTP/1.1, in one task. [`tls`] shakes hands, [`h1`] and [`h2`] read requests ([`cork`] gathers
//! what `h2` writes, [`repeated`] shares what it says again and again), [`route`] and [`policy`] judge them,
//! [`forward`] makes them ready, and [`exchange`] carries them to a homeserver ([`upstream`]) and the response back.
//! [`gate`] bounds what all threads share. [`egress`] is the way out, [`sites`] serves Element Web, [`watch`] takes
//! over new certificates and members, and [`start`] puts it all together.

pub mod answer;
mod certificates;
pub mod command;
mod cork;
pub mod egress;
mod exchange;
mod forward;
pub mod gate;
mod h1;
mod h2;
pub mod http1;
mod io;
mod metrics;
pub mod policy;
mod repeated;
pub mod route;
pub mod settings;
pub mod sites;
mod start;
mod tls;
mod tunnel;
mod upstream;
mod watch;
mod worker;
pub mod x_matrix;

pub use self::start::{Addresses, Proxy};

use crate::service::failure::Failure;
use settings::Settings;

/// Reads the files that settings name, without serving.
///
/// # Errors
/// When one cannot be used.
pub fn check_files(settings: &Settings) -> Result<(), Failure> {
    policy::Policy::new(settings.policy.clone())?;
    certificates::Certificates::read(settings).map(drop)
}
