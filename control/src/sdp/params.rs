//! The outcome of a negotiation in the engine's types.

use sluice_engine::ids::{LegId, Mid, Ssrc, TallyId, TrackId};
use sluice_engine::session::params::{LegParams, MediaKind, PayloadMap, TrackParams};
use sluice_engine::wire::rtp_ext::{Extension, ExtensionMap};

use super::codecs::Codec;
use super::negotiator::RemoteTrack;
use super::policy::Policy;
use super::simulcast::lowest_first;
use super::state::Terms;

/// The header extensions that we offer to a subscriber of a track, as far as its session's policy has them.
pub(super) fn offered_extensions(kind: MediaKind) -> &'static [Extension] {
    match kind {
        MediaKind::Audio => &[
            Extension::Mid,
            Extension::TransportCc,
            Extension::AudioLevel,
            Extension::AbsCaptureTime,
        ],
        MediaKind::Video => &[
            Extension::Mid,
            Extension::TransportCc,
            Extension::VideoOrientation,
            Extension::VideoContentType,
            Extension::PlayoutDelay,
            Extension::ColorSpace,
            Extension::DependencyDescriptor,
            Extension::AbsCaptureTime,
        ],
    }
}

/// What the engine must know of a published track.
pub(super) fn track_params(
    track: TrackId,
    mid: Mid,
    kind: MediaKind,
    terms: &Terms,
    ssrcs: (&[Ssrc], &[Ssrc]),
) -> TrackParams {
    TrackParams {
        tally: TallyId::default(),
        track,
        mid,
        kind,
        codecs: terms.codecs.iter().map(Codec::params).collect(),
        ssrcs: ssrcs.0.to_vec(),
        rtx_ssrcs: ssrcs.1.to_vec(),
        extensions: extension_map(&terms.extensions, |_| true),
        layers: lowest_first(&terms.layers),
        voice_activity: false,
    }
}

/// Whether two descriptions of a published track differ in nothing but its number and the order of their lists.
pub(super) fn is_same_track(a: &TrackParams, b: &TrackParams) -> bool {
    fn is_same_set<T: PartialEq>(a: &[T], b: &[T]) -> bool {
        a.len() == b.len() && a.iter().all(|item| b.contains(item))
    }
    a.mid == b.mid
        && a.kind == b.kind
        && is_same_set(&a.codecs, &b.codecs)
        && is_same_set(&a.ssrcs, &b.ssrcs)
        && is_same_set(&a.rtx_ssrcs, &b.rtx_ssrcs)
        && a.extensions == b.extensions
        && a.layers == b.layers
}

/// Whether a running leg may go on under what is described: the same payload types, and no header extension less.
/// Further extensions that the peer offers later are not worth another leg.
pub(super) fn may_go_on(running: &LegParams, described: &LegParams) -> bool {
    let is_kept = |&extension: &Extension| {
        let id = running.extensions.id(extension);
        id.is_none() || id == described.extensions.id(extension)
    };
    running.payload_types == described.payload_types && Extension::ALL.iter().all(is_kept)
}

/// What the engine must know of a leg; `None` when the receiver takes none of the track's codecs.
///
/// Transport-wide numbers are written only when their feedback was agreed on too: nothing can be learnt from them otherwise.
pub(super) fn leg_params(
    policy: &Policy,
    leg: LegId,
    mid: Mid,
    track: &RemoteTrack,
    ssrcs: (Ssrc, Option<Ssrc>),
    terms: &Terms,
) -> Option<LegParams> {
    let payload_types = payload_maps(track, &terms.codecs, ssrcs.1.is_some());
    if payload_types.is_empty() {
        return None;
    }
    let has_feedback = terms.codecs.iter().any(|codec| codec.feedback.transport_cc);
    let is_sent = |extension: Extension| {
        policy.sends(extension) && (extension != Extension::TransportCc || has_feedback)
    };
    let repaired = payload_types.iter().any(|map| map.rtx.is_some());
    Some(LegParams {
        leg,
        track: track.track,
        mid,
        ssrc: ssrcs.0,
        rtx_ssrc: ssrcs.1.filter(|_| repaired),
        payload_types,
        extensions: extension_map(&terms.extensions, is_sent),
        // As `a=ssrc:… cname` says: one per publisher.
        cname: track.stream.clone(),
    })
}

/// The publisher's payload types and what they become for a receiver.
pub(super) fn payload_maps(track: &RemoteTrack, receiver: &[Codec], rtx: bool) -> Vec<PayloadMap> {
    let translate = |sent: &Codec| {
        let taken = receiver.iter().find(|&taken| sent.is_taken_by(taken))?;
        let rtx = taken.rtx.filter(|_| rtx);
        Some(PayloadMap { from: sent.payload_type, to: taken.payload_type, rtx })
    };
    track.codecs.iter().filter_map(translate).collect()
}

fn extension_map(
    extensions: &[(u8, Extension)],
    wanted: impl Fn(Extension) -> bool,
) -> ExtensionMap {
    let mut map = ExtensionMap::default();
    for &(id, extension) in extensions {
        if wanted(extension) {
            map.set(extension, id);
        }
    }
    map
}
