//! Congestion control: feedback to publishers about what arrived, and the estimate of what the path to a subscriber carries.

pub mod aimd;
pub mod delay;
pub mod estimator;
pub mod feedback;
pub mod loss;
pub mod sent;

/// Where an estimate begins, and between what it stays.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds {
    /// Before any feedback, bits per second.
    pub initial_bps: f64,
    /// The least, bits per second.
    pub min_bps: f64,
    /// The most, bits per second.
    pub max_bps: f64,
}

impl Bounds {
    fn clamp(&self, bps: f64) -> f64 {
        bps.max(self.min_bps).min(self.max_bps)
    }
}
