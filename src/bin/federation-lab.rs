//! The program `federation-lab`.

fn main() {}
