//! Floor 2: TLS by server name, plain HTTP by Host, federation policy, egress.

pub mod answer;
pub mod gate;
pub mod http1;
mod io;
pub mod policy;
pub mod route;
pub mod settings;
pub mod x_matrix;
