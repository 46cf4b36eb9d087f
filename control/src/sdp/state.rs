//! What both sides have agreed on, m= section by m= section; cloned for a negotiation and put in place when it succeeds.

use std::collections::BTreeSet;
use std::sync::Arc;

use sluice_engine::ice::Credentials;
use sluice_engine::ids::{LegId, Mid, Rid, Ssrc, TrackId};
use sluice_engine::session::params::{LegParams, MediaKind, RemoteParams, TrackParams};
use sluice_engine::wire::rtp_ext::Extension;

use super::bundle_ids::{ExtensionIds, PayloadTable};
use super::codecs::Codec;
use super::negotiator::{Change, RemoteTrack};
use super::parse::{Direction, MediaSection, SectionKind};

/// One state of the negotiation: agreed, or proposed by our offer.
#[derive(Clone)]
pub(super) struct State {
    pub sections: Vec<Section>,
    pub payloads: PayloadTable,
    pub extension_ids: ExtensionIds,
    /// The peer's half of the transport.
    pub remote: Option<RemoteParams>,
    /// Our ICE credentials.
    pub ice: Credentials,
    /// Whether `a=group:BUNDLE` is written: in offers always, in answers when the offer has it.
    pub bundled: bool,
    /// `a=extmap-allow-mixed` at session level.
    pub extmap_allow_mixed: bool,
    /// Tracks that the peer refused, or that cannot be offered to it; they are not offered again.
    pub declined: BTreeSet<TrackId>,
    /// Tracks for which there was no m= section left; they are offered when one becomes free.
    pub crowded_out: BTreeSet<TrackId>,
}

/// One m= section.
#[derive(Clone)]
pub(super) struct Section {
    /// The word after `m=`.
    pub media: String,
    pub kind: SectionKind,
    pub protocol: String,
    /// Written when the section is stopped.
    pub first_format: String,
    /// Live sections have one.
    pub mid: Option<Mid>,
    /// Port 0: rejected or stopped, free for either side to use anew.
    pub stopped: bool,
    /// Whether an offer of ours made it.
    pub ours: bool,
    /// Whether the peer would receive a track here. A section made for the peer's own media is not used for others.
    pub receptive: bool,
    /// Our direction as last described.
    pub direction: Direction,
    pub terms: Terms,
    /// What the peer publishes here.
    pub published: Option<TrackParams>,
    pub leg: Option<Leg>,
    /// The track whose leg the peer has paused by its direction; it comes back here or nowhere.
    pub paused: Option<TrackId>,
    /// Of a live section of data channels: the longest message that the peer takes, in bytes.
    pub message_bytes_max: Option<usize>,
    /// The stream that the peer's track belongs to, by the peer's name for it.
    pub source_stream: Option<String>,
}

/// What we describe of an m= section's media.
#[derive(Clone, Default)]
pub(super) struct Terms {
    pub codecs: Vec<Codec>,
    pub extensions: Vec<(u8, Extension)>,
    pub rtcp_rsize: bool,
    /// `a=extmap-allow-mixed` at media level.
    pub extmap_allow_mixed: bool,
    /// The simulcast layers that we take, in the peer's order.
    pub layers: Vec<Rid>,
}

/// A track on its way to the peer.
#[derive(Clone)]
pub(super) struct Leg {
    pub id: LegId,
    pub track: Arc<RemoteTrack>,
    pub ssrc: Ssrc,
    pub rtx_ssrc: Option<Ssrc>,
    /// What the engine was told; `None` while it is only offered.
    pub live: Option<LegParams>,
}

/// Changes in the order in which they are to be carried out: transport, removals, additions.
#[derive(Default)]
pub(super) struct ChangeLog {
    pub transport: Vec<Change>,
    pub removals: Vec<Change>,
    pub additions: Vec<Change>,
}

impl ChangeLog {
    pub(super) fn into_changes(self) -> Vec<Change> {
        let mut changes = self.transport;
        changes.extend(self.removals);
        changes.extend(self.additions);
        changes
    }

    /// Takes a leg down, if the engine knows it.
    pub(super) fn remove_leg(&mut self, leg: &Leg) {
        if leg.live.is_some() {
            self.removals.push(Change::RemoveLeg(leg.id));
        }
    }
}

impl State {
    pub(super) fn new(ice: Credentials) -> Self {
        Self {
            sections: Vec::new(),
            payloads: PayloadTable::new(),
            extension_ids: ExtensionIds::new(),
            remote: None,
            ice,
            bundled: false,
            extmap_allow_mixed: false,
            declined: BTreeSet::new(),
            crowded_out: BTreeSet::new(),
        }
    }

    /// The tracks that have their place, are not wanted, or must wait for room.
    pub(super) fn placed(&self) -> BTreeSet<TrackId> {
        let here = |section: &Section| {
            [section.paused, section.leg.as_ref().map(|leg| leg.track.track)].into_iter().flatten()
        };
        let without_place = self.declined.iter().chain(&self.crowded_out).copied();
        self.sections.iter().flat_map(here).chain(without_place).collect()
    }

    /// Whether the transport is gone: the peer closes it with the last m= section. Starting another one in its place is not supported.
    pub(super) fn has_ended(&self) -> bool {
        self.remote.is_some() && self.sections.iter().all(|s| s.stopped)
    }

    /// Whether some section's direction is not the one last described.
    pub(super) fn has_stale_direction(&self) -> bool {
        self.sections.iter().any(|s| !s.stopped && s.direction != s.wanted_direction())
    }

    /// Whether the peer describes this SSRC as its own.
    pub(super) fn is_ssrc_of_peer(&self, ssrc: Ssrc) -> bool {
        let mut published = self.sections.iter().filter_map(|s| s.published.as_ref());
        published.any(|p| p.ssrcs.contains(&ssrc) || p.rtx_ssrcs.contains(&ssrc))
    }

    /// Learns payload types and extension ids of a section of the peer.
    pub(super) fn note(&mut self, section: &MediaSection) {
        self.payloads.note(section);
        self.extension_ids.note(section);
    }

    /// Takes a track out of all sections; the leg that the engine must remove, if there is one.
    pub(super) fn forget_track(&mut self, track: TrackId) -> Option<LegId> {
        self.declined.remove(&track);
        self.crowded_out.remove(&track);
        let mut live = None;
        for section in &mut self.sections {
            section.paused = section.paused.filter(|&paused| paused != track);
            if let Some(leg) = section.leg.take_if(|leg| leg.track.track == track) {
                live = live.or(leg.live.is_some().then_some(leg.id));
                self.crowded_out.clear();
            }
        }
        live
    }
}

impl Section {
    /// A section of the peer, with nothing agreed yet.
    pub(super) fn of_peer(section: &MediaSection) -> Self {
        Self {
            media: section.media.clone(),
            kind: section.kind,
            protocol: section.protocol.clone(),
            first_format: section.first_format.clone(),
            mid: section.mid,
            stopped: false,
            ours: false,
            receptive: false,
            direction: Direction::INACTIVE,
            terms: Terms::default(),
            published: None,
            leg: None,
            paused: None,
            message_bytes_max: None,
            source_stream: None,
        }
    }

    /// A section of our own.
    pub(super) fn of_ours(kind: MediaKind, mid: Mid) -> Self {
        let media = match kind {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
        };
        Self {
            media: media.to_owned(),
            kind: SectionKind::Media(kind),
            protocol: "UDP/TLS/RTP/SAVPF".to_owned(),
            first_format: "0".to_owned(),
            mid: Some(mid),
            stopped: false,
            ours: true,
            receptive: true,
            direction: Direction::INACTIVE,
            terms: Terms::default(),
            published: None,
            leg: None,
            paused: None,
            message_bytes_max: None,
            source_stream: None,
        }
    }

    /// The direction that what stands here asks for.
    pub(super) fn wanted_direction(&self) -> Direction {
        Direction { send: self.leg.is_some(), recv: self.published.is_some() }
    }

    /// Whether a track of `kind` may be put here by our offer. Source: RFC 9429 §5.2.1.
    pub(super) fn is_free_for(&self, kind: MediaKind) -> bool {
        !self.stopped
            && self.kind == SectionKind::Media(kind)
            && self.receptive
            && self.leg.is_none()
            && self.published.is_none()
            && self.paused.is_none()
    }

    /// Takes a section of data channels; its attributes were checked before.
    pub(super) fn take_data(&mut self, described: &MediaSection) {
        self.message_bytes_max = described.sctp.and_then(|sctp| sctp.max_message_size);
    }

    /// Ends all that goes on here; the section is free for either side.
    pub(super) fn stop(&mut self, declined: &mut BTreeSet<TrackId>, log: &mut ChangeLog) {
        if let Some(published) = self.published.take() {
            log.removals.push(Change::Unpublish(published.track));
        }
        if let Some(leg) = self.leg.take() {
            log.remove_leg(&leg);
            declined.insert(leg.track.track);
        }
        declined.extend(self.paused.take());
        self.message_bytes_max = None;
        self.source_stream = None;
        self.stopped = true;
        self.receptive = false;
        self.direction = Direction::INACTIVE;
        self.terms = Terms::default();
    }
}
