//! The program `fhir-bridge`.

fn main() {}
