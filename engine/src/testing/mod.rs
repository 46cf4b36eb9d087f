//! What tests, fuzzing and the bench need of the engine beyond its interface. Feature `testing`.

pub mod acquainted;
pub mod client;
pub mod data;
pub mod fuzz;
pub mod net;
