//! Random sequences of everything that can happen to a session, against a client that speaks JSEP.

use std::collections::{BTreeMap, BTreeSet};

use sluice_engine::ids::{LegId, Ssrc, TrackId};
use sluice_engine::session::params::{LegParams, TrackParams};

use super::client::{Client, Verdict};
use super::*;

/// What the engine would hold after the changes so far; refuses what the engine would refuse.
#[derive(Default)]
struct EngineModel {
    legs: BTreeMap<LegId, LegParams>,
    tracks: BTreeMap<TrackId, TrackParams>,
    ssrcs: BTreeSet<Ssrc>,
}

impl EngineModel {
    fn carry_out(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::AddLeg(leg) => {
                    assert!(self.ssrcs.insert(leg.ssrc), "SSRC {} was used before", leg.ssrc);
                    assert!(leg.rtx_ssrc.is_none_or(|rtx| self.ssrcs.insert(rtx)));
                    assert!(!leg.payload_types.is_empty());
                    let has_rtx = leg.payload_types.iter().any(|map| map.rtx.is_some());
                    assert_eq!(has_rtx, leg.rtx_ssrc.is_some());
                    let is_double =
                        self.legs.values().any(|l| l.track == leg.track || l.mid == leg.mid);
                    assert!(!is_double, "{leg:?}");
                    assert!(self.legs.insert(leg.leg, leg).is_none());
                }
                Change::RemoveLeg(leg) => assert!(self.legs.remove(&leg).is_some(), "{leg}"),
                Change::Publish { params, track } => {
                    assert_eq!(params.track, track.track);
                    assert!(!self.tracks.values().any(|t| t.mid == params.mid));
                    assert!(self.tracks.insert(params.track, params).is_none());
                }
                Change::Unpublish(track) => assert!(self.tracks.remove(&track).is_some()),
                Change::SetRemote(_) | Change::RestartIce { .. } => {}
            }
        }
    }
}

fn run(seed: u64, policy: Policy) {
    let mut chance = Chance(seed | 1);
    let mut session = seeded_negotiator(policy, seed ^ 0xABCD);
    let mut client = Client::new();
    if policy.data_channel {
        client.add("application", false, false);
        let negotiated = session.handle_offer(&client.offer()).unwrap();
        client.take_answer(&negotiated.answer);
        assert!(session.has_data_channel());
    }
    let mut engine = EngineModel::default();
    let mut wanted: Vec<u64> = Vec::new();
    let mut refused: BTreeSet<u64> = BTreeSet::new();
    let mut offer: Option<String> = None;
    let mut next_track = 0;
    for _ in 0..40 {
        match chance.below(10) {
            0 | 1 => {
                next_track += 1;
                let track = if chance.below(2) == 0 {
                    audio_track(next_track)
                } else {
                    video_track(next_track)
                };
                session.add_track(track);
                wanted.push(next_track);
            }
            2 if !wanted.is_empty() => {
                let track = wanted.swap_remove(chance.below(wanted.len()));
                refused.remove(&track);
                engine.carry_out(session.remove_track(TrackId(track)).into_iter().collect());
            }
            3 => {
                let made = session.make_offer();
                assert_eq!(made.is_some() || offer.is_some(), session.is_offer_pending());
                offer = made.or(offer);
            }
            4 | 5 => {
                let Some(text) = offer.take() else { continue };
                let before = client.clone();
                let answer = client.answer(&text, || match chance.below(8) {
                    0 => Verdict::Pause,
                    1 => Verdict::Stop,
                    _ => Verdict::Take,
                });
                if chance.below(6) == 0 {
                    // The answer gets lost, and garbage comes in its place: the offer still stands.
                    client = before;
                    assert!(session.handle_answer("v=0\r\n").is_err());
                    offer = session.outstanding_offer().map(str::to_owned);
                    assert_eq!(offer.as_deref(), Some(text.as_str()));
                    continue;
                }
                engine.carry_out(session.handle_answer(&answer).unwrap());
            }
            6 | 7 => {
                let before = client.clone();
                change_client(&mut client, &mut chance);
                if client.transceivers.is_empty() {
                    continue;
                }
                let text = client.offer();
                if session.is_offer_pending() {
                    assert_eq!(session.handle_offer(&text).unwrap_err(), NegotiationError::Glare);
                    client = before;
                } else {
                    let has_ended = session.agreed.has_ended();
                    let negotiated = match session.handle_offer(&text) {
                        Ok(negotiated) => negotiated,
                        Err(NegotiationError::State { .. }) if has_ended => return,
                        Err(error) => panic!(
                            "{error}
{text}"
                        ),
                    };
                    client.take_answer(&negotiated.answer);
                    let places = policy.place_in_answers;
                    assert!(places || !has_new_leg(&engine, &negotiated.changes));
                    engine.carry_out(negotiated.changes);
                }
            }
            8 => {
                let Some(text) = offer.take() else { continue };
                session.rollback_offer();
                let before = client.clone();
                let answer = client.answer(&text, || Verdict::Take);
                assert!(matches!(
                    session.handle_answer(&answer),
                    Err(NegotiationError::State { .. })
                ));
                // Either the offer was lost, or the client has applied it and was late.
                if chance.below(2) == 0 {
                    client = before;
                }
            }
            _ => {
                if !session.is_offer_pending() && chance.below(4) == 0 {
                    session.restart_ice();
                    offer = session.make_offer();
                    let has_sections = client.transceivers.iter().any(|t| !t.stopped);
                    assert!(offer.is_some() || !has_sections || session.agreed.has_ended());
                }
            }
        }
        let live: Vec<TrackId> = engine.legs.values().map(|l| l.track).collect();
        assert!(live.iter().all(|t| wanted.contains(&t.0)), "a removed track is still forwarded");
        let agreed = session.legs().into_iter().filter(|leg| leg.agreed);
        let agreed: BTreeSet<LegId> = agreed.map(|leg| leg.leg).collect();
        assert_eq!(agreed, engine.legs.keys().copied().collect());
        let published: BTreeSet<TrackId> = session.published().into_iter().map(|p| p.0).collect();
        assert_eq!(published, engine.tracks.keys().copied().collect());
    }
    settle(&mut session, &mut client, &mut engine, offer);
    // With everything said, every track is forwarded unless the client has refused its section.
    for &track in &wanted {
        let forwarded = engine.legs.values().filter(|leg| leg.track == TrackId(track)).count();
        assert!(
            forwarded == 1
                || session.agreed.placed().contains(&TrackId(track))
                || session.agreed.has_ended(),
            "track {track}"
        );
    }
    let sending = client.transceivers.iter().filter(|t| t.send && !t.stopped).count();
    assert!(engine.tracks.len() <= sending);
}

/// Whether an answer brings a track to a section that had none.
fn has_new_leg(engine: &EngineModel, changes: &[Change]) -> bool {
    let is_new = |change: &Change| match change {
        Change::AddLeg(leg) => !engine.legs.values().any(|l| l.track == leg.track),
        _ => false,
    };
    changes.iter().any(is_new)
}

fn change_client(client: &mut Client, chance: &mut Chance) {
    let media = if chance.below(2) == 0 { "audio" } else { "video" };
    let count = client.transceivers.len();
    match chance.below(6) {
        0 => drop(client.add(media, true, false)),
        1 => drop(client.add(media, true, true)),
        2 => drop(client.add(media, false, true)),
        3 if count > 0 => {
            let t = &mut client.transceivers[chance.below(count)];
            t.send = !t.send;
        }
        4 if count > 0 => {
            let t = &mut client.transceivers[chance.below(count)];
            t.recv = !t.recv;
        }
        5 if count > 0 => client.transceivers[chance.below(count)].stopped = true,
        _ => {}
    }
}

/// Exchanges offers until neither side has anything to say; that must come soon.
fn settle(
    session: &mut Negotiator,
    client: &mut Client,
    engine: &mut EngineModel,
    mut offer: Option<String>,
) {
    for _ in 0..4 {
        offer = offer.or_else(|| session.make_offer());
        let Some(text) = offer.take() else { return };
        let answer = client.answer(&text, || Verdict::Take);
        engine.carry_out(session.handle_answer(&answer).unwrap());
    }
    panic!("the session never comes to rest: {:?}", session.make_offer());
}

#[test]
fn random_sequences_keep_both_sides_in_step() {
    for seed in 1..=600 {
        for (name, policy) in [("native", Policy::NATIVE), ("rtcd", Policy::RTCD)] {
            let result = std::panic::catch_unwind(|| run(seed, policy));
            if let Err(panic) = result {
                eprintln!("seed {seed}, {name}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}
