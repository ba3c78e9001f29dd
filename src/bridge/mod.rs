//! Floor 3: the mapping between FHIR and Matrix, and the engine that carries it.

pub mod command;
pub mod directory;
pub mod engine;
pub mod identity;
pub mod mapping;
pub mod store;
