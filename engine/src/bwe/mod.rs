//! Bandwidth: what we tell publishers about how their packets arrive.

pub mod feedback;
