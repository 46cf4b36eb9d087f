//! Who sits where: numbers of people and streams that all workers share.

use serde::{Deserialize, Serialize};

use crate::conversation::Source;
use crate::scenario::Scenario;

/// A place in a call. Who leaves gives it up to somebody new.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Seat {
    pub call: u32,
    /// Position within the call. The first ones send.
    pub place: u32,
}

/// Streams that one person may send.
const STREAMS: u32 = 4;

/// The seats of worker `worker` of `workers`, in the order of joining: those who send come first, calls in turn.
pub fn of_worker(scenario: &Scenario, worker: u32, workers: u32) -> Vec<Seat> {
    let calls = scenario.calls;
    let places = (0..calls.participants)
        .flat_map(|place| (0..calls.calls).map(move |call| Seat { call, place }));
    places.skip(worker as usize).step_by(workers as usize).collect()
}

impl Seat {
    /// What sits here sends.
    pub fn sources(self, scenario: &Scenario) -> Vec<Source> {
        let mut sources = Vec::new();
        if self.place < scenario.calls.unmuted {
            sources.push(Source::Audio);
        }
        if self.place < scenario.calls.screens {
            let simulcast = scenario.screen.low_rate_bps > 0;
            sources.push(if simulcast { Source::SimulcastScreen } else { Source::Screen });
        }
        sources
    }

    /// The number of a stream of who sits here: `layer` 0 is the only or the high one, 1 the low one.
    pub fn stream(self, scenario: &Scenario, source: Source, layer: u32) -> u32 {
        let person = self.call * scenario.calls.participants + self.place;
        person * STREAMS + if source == Source::Audio { 0 } else { 1 + layer }
    }
}

/// The call of a stream.
pub fn call_of(scenario: &Scenario, stream: u32) -> u32 {
    stream / STREAMS / scenario.calls.participants
}

/// Whether it is a video.
pub fn is_video(stream: u32) -> bool {
    !stream.is_multiple_of(STREAMS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario() -> Scenario {
        let text = "name = \"x\"\n[calls]\ncalls = 2\nparticipants = 3\nunmuted = 2\nscreens = 1";
        toml::from_str(text).unwrap()
    }

    #[test]
    fn workers_share_all_seats_and_senders_come_first() {
        let scenario = scenario();
        let mut all: Vec<_> = (0..2).flat_map(|worker| of_worker(&scenario, worker, 2)).collect();
        all.sort();
        let expected: Vec<_> =
            (0..2).flat_map(|call| (0..3).map(move |place| Seat { call, place })).collect();
        assert_eq!(all, expected);
        let first: Vec<_> = of_worker(&scenario, 0, 1).into_iter().take(2).collect();
        assert_eq!(first, [Seat { call: 0, place: 0 }, Seat { call: 1, place: 0 }]);
    }

    #[test]
    fn streams_have_numbers_of_their_own_that_name_the_call() {
        let scenario = scenario();
        let seat = Seat { call: 1, place: 2 };
        let numbers: Vec<_> =
            [(Source::Audio, 0), (Source::SimulcastScreen, 0), (Source::SimulcastScreen, 1)]
                .map(|(source, layer)| seat.stream(&scenario, source, layer))
                .to_vec();
        assert_eq!(numbers, [20, 21, 22]);
        assert!(numbers.iter().all(|&stream| call_of(&scenario, stream) == 1));
        assert_eq!(numbers.iter().map(|&s| is_video(s)).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(Seat { call: 0, place: 0 }.sources(&scenario), [Source::Audio, Source::Screen]);
        assert_eq!(Seat { call: 0, place: 1 }.sources(&scenario), [Source::Audio]);
        assert_eq!(Seat { call: 0, place: 2 }.sources(&scenario), []);
    }
}
