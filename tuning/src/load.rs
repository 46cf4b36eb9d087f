//! The load that is expected, as people say it: `1x1000 screen, 100x2`.

use serde::Serialize;

/// Calls of one shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Calls {
    /// How many of them run at once.
    pub calls: u32,
    /// People in each.
    pub participants: u32,
    /// Of those, how many are unmuted.
    pub unmuted: u32,
    /// Shared screens in each.
    pub screens: u32,
    /// Cameras in each.
    pub cameras: u32,
}

/// The calls that run at the same time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Load {
    /// At least one shape.
    pub shapes: Vec<Calls>,
}
