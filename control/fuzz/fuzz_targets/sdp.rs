//! Descriptions of any content, as offer, as answer and as fragment: nothing panics, and what we answer can be offered back to us.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_control::sdp::{
    Change, LocalTransport, NegotiationError, Negotiator, Policy, Supply, host_candidates,
    parse_candidate, parse_fragment,
};
use sluice_engine::dtls::{Fingerprint, HashFunction};
use sluice_engine::ice::Credentials;
use sluice_engine::ids::{LegId, TrackId};

/// Numbers that count up, and bytes that are anything but random.
struct Counting(u64);

impl Counting {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

impl Supply for Counting {
    fn track_id(&mut self) -> TrackId {
        TrackId(self.next())
    }

    fn leg_id(&mut self) -> LegId {
        LegId(self.next())
    }

    fn credentials(&mut self) -> Credentials {
        credentials(self.next())
    }

    fn random(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.next().wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0]);
    }
}

fn credentials(number: u64) -> Credentials {
    Credentials { ufrag: format!("u{number:0>9}"), pwd: format!("p{number:0>30}") }
}

fn negotiator(policy: Policy, numbers_from: u64) -> Negotiator {
    let address = "192.0.2.10:8443".parse().expect("an address");
    let local = LocalTransport {
        ice: credentials(0),
        fingerprint: Fingerprint { hash: HashFunction::Sha256, value: (0..32).collect() },
        candidates: host_candidates(&[address], &[address]),
    };
    Negotiator::new("fuzz", local, policy, Box::new(Counting(numbers_from)))
}

fuzz_target!(|data: &str| {
    let (first, second) = data.split_once('\u{1}').unwrap_or((data, data));
    for policy in [Policy::NATIVE, Policy::WHIP, Policy::WHEP] {
        let mut publisher = negotiator(policy, 1_000);
        let mut subscriber = negotiator(Policy::NATIVE, 2_000);
        if let Ok(negotiated) = publisher.handle_offer(first) {
            // Well-formed by our own reading; whether it makes sense as an offer is another matter.
            let refused = negotiator(Policy::NATIVE, 3_000).handle_offer(&negotiated.answer).err();
            assert!(!matches!(refused, Some(NegotiationError::BadSdp { .. })), "{refused:?}");
            for change in negotiated.changes {
                if let Change::Publish { track, .. } = change {
                    subscriber.add_track(track);
                }
            }
        }
        if subscriber.make_offer().is_some() {
            let _ = subscriber.handle_answer(second);
        }
        let _ = publisher.handle_offer(second);
    }
    let _ = parse_fragment(first);
    let _ = parse_candidate(first);
});
