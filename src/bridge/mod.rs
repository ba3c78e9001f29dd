//! Floor 3: the mapping between FHIR and Matrix, the engine that carries it, and what people see of it.

pub mod bot;
pub mod command;
pub mod directory;
pub mod engine;
pub mod identity;
pub mod mapping;
pub mod page;
pub mod store;
pub mod words;
