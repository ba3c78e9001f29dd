//! The program `federation-ca`.

fn main() {}
