//! Which load to try next: up or down by half until one is carried and one is not, then between the two.

use super::Ending;

/// What is known of the sizes so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bracket {
    /// Where to begin.
    pub(super) start: u32,
    /// The smallest and the largest size there can be.
    pub(super) least: u32,
    pub(super) most: u32,
    /// The largest that was carried.
    pub(super) carried: Option<u32>,
    /// The smallest that was not.
    pub(super) refused: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Try(u32),
    End(Ending),
}

impl Bracket {
    pub(super) fn next(&self) -> Next {
        match (self.carried, self.refused) {
            (None, None) => Next::Try(self.start),
            (Some(carried), None) if carried == self.most => Next::End(Ending::Bounds),
            (Some(carried), None) => Next::Try(self.most.min((carried * 3).div_ceil(2))),
            (None, Some(refused)) if refused == self.least => Next::End(Ending::Nothing),
            (None, Some(refused)) => Next::Try(self.least.max(refused * 2 / 3)),
            (Some(carried), Some(refused)) => {
                let is_near = f64::from(refused) <= f64::from(carried) * NEAR;
                match is_near || refused - carried <= 1 {
                    true => Next::End(Ending::Found),
                    false => Next::Try(u32::midpoint(carried, refused)),
                }
            }
        }
    }
}

/// How near the smallest refused size must be to the largest carried one.
const NEAR: f64 = 1.05;
