//! What is compared of two runs, and how far the rounds lie apart.

use serde::{Deserialize, Serialize};

use crate::result::RunResult;
use crate::spread::Spread;

/// A's figures by B's, of one round. Absent where either has none, or B's is nothing.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Ratios {
    /// CPU by the packet out.
    pub us_per_packet_out: Option<f64>,
    /// CPU of the server.
    pub cores: Option<f64>,
    pub latency_p50: Option<f64>,
    pub latency_p99: Option<f64>,
    /// Resident memory when all had joined.
    pub resident_joined: Option<f64>,
    /// Share that A lost, less that which B lost: most often both are nothing, and have no ratio.
    pub loss_share_difference: f64,
}

/// [`Ratios`] of all rounds that can be used.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Differences {
    /// Rounds that can be used.
    pub rounds: u32,
    pub us_per_packet_out: Option<Spread>,
    pub cores: Option<Spread>,
    pub latency_p50: Option<Spread>,
    pub latency_p99: Option<Spread>,
    pub resident_joined: Option<Spread>,
    pub loss_share_difference: Option<Spread>,
}

/// What a spread of ratios says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// A's figure was the smaller one in every round.
    Below,
    /// A's figure was the larger one in every round.
    Above,
    /// Neither.
    Undecided,
}

impl Ratios {
    pub(super) fn of(a: &RunResult, b: &RunResult) -> Self {
        let latency = |p: f64, of: &RunResult| (of.latency_us.count > 0).then_some(p);
        Self {
            us_per_packet_out: ratio(a.server.us_per_packet_out, b.server.us_per_packet_out),
            cores: ratio(Some(a.server.cores), Some(b.server.cores)),
            latency_p50: ratio(latency(a.latency_us.p50, a), latency(b.latency_us.p50, b)),
            latency_p99: ratio(latency(a.latency_us.p99, a), latency(b.latency_us.p99, b)),
            resident_joined: ratio(
                Some(a.server.resident_joined_bytes as f64),
                Some(b.server.resident_joined_bytes as f64),
            ),
            loss_share_difference: a.loss.share - b.loss.share,
        }
    }
}

impl Differences {
    pub(super) fn of(rounds: impl Iterator<Item = Ratios>) -> Self {
        let rounds: Vec<Ratios> = rounds.collect();
        let spread = |of: fn(&Ratios) -> Option<f64>| Spread::of(rounds.iter().filter_map(of));
        Self {
            rounds: rounds.len() as u32,
            us_per_packet_out: spread(|ratios| ratios.us_per_packet_out),
            cores: spread(|ratios| ratios.cores),
            latency_p50: spread(|ratios| ratios.latency_p50),
            latency_p99: spread(|ratios| ratios.latency_p99),
            resident_joined: spread(|ratios| ratios.resident_joined),
            loss_share_difference: spread(|ratios| Some(ratios.loss_share_difference)),
        }
    }
}

impl Finding {
    /// What these ratios say. A single one says nothing: it has no spread.
    pub fn of(ratios: &Spread) -> Self {
        match (ratios.count > 1, ratios.most < 1.0, ratios.least > 1.0) {
            (true, true, _) => Self::Below,
            (true, _, true) => Self::Above,
            _ => Self::Undecided,
        }
    }
}

fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    let (a, b) = (a?, b.filter(|b| *b > 0.0)?);
    Some(a / b).filter(|ratio| ratio.is_finite())
}
