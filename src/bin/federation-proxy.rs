//! The program `federation-proxy`.

fn main() {}
