//! What a user has seen of a call, and the rules that the server must keep towards clients.

use std::collections::{BTreeMap, BTreeSet};

use super::codec::MediaMapEntry;
use super::description::{Section, sections};
use super::media::Received;

/// What one user has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connected: bool,
    pub(crate) channel_open: bool,
    /// Whether the peer connection has ended.
    pub(crate) ended: bool,
    /// Candidates that came as `rtc` messages.
    pub(crate) candidates: Vec<String>,
    /// The server's offers, oldest first.
    pub(crate) offers: Vec<Description>,
    /// The server's answers, oldest first.
    pub(crate) answers: Vec<Description>,
    /// How often a server's offer came while this client held the lock.
    pub(crate) offers_under_lock: usize,
    /// How often an offer of ours gave way to one of the server's.
    pub(crate) rollbacks: usize,
    /// The last media map.
    pub(crate) media_map: BTreeMap<String, MediaMapEntry>,
    pub(crate) media_maps: usize,
    /// Each track that a client would have been told of, those that ended too.
    pub(crate) tracks: Vec<Track>,
    /// What came, by mid.
    pub(crate) received: BTreeMap<String, Received>,
    /// Key frames that were asked of us, by mid and rid.
    pub(crate) keyframe_requests: BTreeMap<(String, String), usize>,
    /// Packets that left us, by note.
    pub(crate) sent: BTreeMap<u8, usize>,
    /// Answers to `Lock`.
    pub(crate) locks: Vec<bool>,
    pub(crate) pongs: usize,
    /// Text messages of the data channel.
    pub(crate) texts: Vec<String>,
    /// Own changes that are not negotiated yet.
    pub(crate) waiting: usize,
    /// Own m= sections that the server refused.
    pub(crate) refused: Vec<String>,
    /// What the server may not do.
    pub(crate) wrong: Vec<String>,
}

/// A description of the server's.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    pub(crate) sections: Vec<Section>,
    /// Bytes of SDP.
    pub(crate) length: usize,
    /// Whether it came over the data channel.
    pub(crate) by_channel: bool,
}

impl Description {
    pub(crate) fn new(sdp: &str, by_channel: bool) -> Self {
        Self { sections: sections(sdp), length: sdp.len(), by_channel }
    }

    pub(crate) fn section(&self, mid: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.mid == mid)
    }
}

/// A track as the web client takes it: its type is what the media map said when it came (3.4).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Track {
    pub(crate) mid: String,
    /// `voice`, `screen`, `screen-audio` or `video`.
    pub(crate) kind: String,
    /// Session of the publisher.
    pub(crate) sender: String,
    /// Track id in the description.
    pub(crate) id: String,
    pub(crate) ended: bool,
}

impl Seen {
    /// The track of this type by this session that goes on.
    pub(crate) fn track(&self, kind: &str, sender: &str) -> Option<&Track> {
        let is_it = |track: &&Track| !track.ended && track.kind == kind && track.sender == sender;
        self.tracks.iter().find(is_it)
    }

    /// Tracks that go on.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(|track| !track.ended)
    }

    /// What came of a track that goes on.
    pub(crate) fn received(&self, kind: &str, sender: &str) -> Received {
        let track = self.track(kind, sender);
        track.and_then(|track| self.received.get(&track.mid)).cloned().unwrap_or_default()
    }

    /// Applies an offer of the server's: tracks that begin and end with it, and whether it keeps the rules.
    pub(crate) fn take_offer(&mut self, offer: &Description) {
        let live: BTreeMap<_, _> =
            self.live().map(|track| (track.mid.clone(), track.id.clone())).collect();
        let mut sending = BTreeSet::new();
        for section in &offer.sections {
            let before = live.get(&section.mid);
            if !section.sends() {
                let ended = |track: &&mut Track| !track.ended && track.mid == section.mid;
                self.tracks.iter_mut().filter(ended).for_each(|track| track.ended = true);
                continue;
            }
            sending.insert(section.mid.clone());
            let Some((_, id)) = &section.msid else {
                self.wrong.push(format!("section {} sends without a=msid", section.mid));
                continue;
            };
            match before {
                None => self.begin_track(section),
                Some(before) if before != id => self.wrong.push(format!(
                    "section {} goes from {before} to {id} without a pause: no client is told of that",
                    section.mid
                )),
                Some(_) => {}
            }
        }
        let mapped: BTreeSet<_> = self.media_map.keys().cloned().collect();
        if mapped != sending {
            self.wrong.push(format!("the media map lists {mapped:?}, the offer sends {sending:?}"));
        }
    }

    /// A section begins to send: what 3.4 and 3.5 say of its names.
    fn begin_track(&mut self, section: &Section) {
        let mid = &section.mid;
        let Some((stream, id)) = &section.msid else { return };
        let Some(entry) = self.media_map.get(mid) else {
            self.wrong.push(format!("track {id} of section {mid} came before its media map"));
            return;
        };
        let kinds: &[&str] = match section.media.as_str() {
            "audio" => &["voice", "screen-audio"],
            _ => &["screen", "video"],
        };
        let mut wrong = Vec::new();
        if !kinds.contains(&entry.kind.as_str()) {
            wrong.push(format!("the media map calls {} {mid} {}", section.media, entry.kind));
        }
        let fields: Vec<&str> = id.split('_').collect();
        let well_named = matches!(fields[..], [kind, sender, end] if kind == entry.kind && sender == stream && end.len() == 8);
        if !well_named {
            wrong.push(format!("track id {id} in stream {stream} is no <type>_<session>_<8>"));
        }
        if entry.sender != *stream {
            wrong.push(format!("the media map names {} as sender, msid {stream}", entry.sender));
        }
        if section.cnames.iter().any(|cname| cname != stream) || section.cnames.is_empty() {
            wrong.push(format!("CNAMEs of {id} are {:?}, not {stream}", section.cnames));
        }
        self.wrong.extend(wrong);
        self.tracks.push(Track {
            mid: mid.clone(),
            kind: entry.kind.clone(),
            sender: stream.clone(),
            id: id.clone(),
            ended: false,
        });
    }
}
