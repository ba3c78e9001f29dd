//! Floor 2: TLS by server name, plain HTTP by Host, federation policy, egress.

pub mod http1;
pub mod settings;
