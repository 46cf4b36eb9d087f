//! A simulcast track as the packet path sees it: which layers come, how much of each, and who changes to which. Source: RFC 8853.

use std::time::Duration;

use super::layers::{LAYERS_MAX, LayerSelector, Rates, Standing};
use super::table::{LegRef, Track};
use crate::bwe::estimator::Estimate;
use crate::clock::Instant;
use crate::config::LayerConfig;
use crate::ids::{ExtSeqNum, PayloadType, SessionKey};
use crate::metrics::ShardCounters;
use crate::rtp::rate::RateMonitor;
use crate::session::Session;
use crate::session::params::TrackParams;
use crate::session::plain::PlainRtp;
use crate::slots::Slots;
use crate::wire::payload::PayloadFormat;

/// What a simulcast track has beyond any other.
pub struct Simulcast {
    config: LayerConfig,
    formats: Vec<(PayloadType, PayloadFormat)>,
    layers: Vec<Layer>,
    /// One for each leg of the track, in the order of its legs.
    selectors: Vec<LayerSelector>,
    /// When the first packet came.
    since: Option<Instant>,
    checked_at: Option<Instant>,
}

struct Layer {
    rate: RateMonitor,
    latest: Option<Latest>,
}

/// The newest packet of a layer.
#[derive(Clone, Copy)]
struct Latest {
    source: u32,
    index: ExtSeqNum,
    at: Instant,
}

/// How often it is looked after layers that have stopped, and after legs that wait for a key frame.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

impl Simulcast {
    /// Makes the part of a track that nothing came of yet; `None` for a track without simulcast.
    pub fn new(params: &TrackParams, config: &LayerConfig) -> Option<Self> {
        if params.layers.is_empty() {
            return None;
        }
        let formats = params.codecs.iter().map(|codec| (codec.payload_type, codec.format));
        let layer = |at: usize| {
            let window = if at == 0 { config.low_window } else { config.high_window };
            Layer { rate: RateMonitor::new(window), latest: None }
        };
        Some(Self {
            config: config.clone(),
            formats: formats.collect(),
            layers: (0..params.layers.len().min(LAYERS_MAX)).map(layer).collect(),
            selectors: Vec::new(),
            since: None,
            checked_at: None,
        })
    }

    /// How the payloads of a payload type are laid out.
    pub fn format_of(&self, payload_type: PayloadType) -> PayloadFormat {
        let found = self.formats.iter().find(|(known, _)| *known == payload_type);
        found.map_or(PayloadFormat::Other, |&(_, format)| format)
    }

    /// Takes note of a packet of `bytes` bytes; returns whether legs that wait for its layer can go on with it: it is the first of
    /// a key frame, and nothing that follows it has passed yet. Where key frames are not recognised any packet will do; the key
    /// frame that was asked for follows.
    fn on_packet(&mut self, now: Instant, packet: &PlainRtp<'_>, bytes: usize) -> bool {
        self.since.get_or_insert(now);
        let Some(layer) = self.layers.get_mut(usize::from(packet.layer)) else { return false };
        layer.rate.on_packet(now, bytes);
        let (source, index) = (packet.numbers.source, packet.numbers.index);
        if layer.latest.is_some_and(|latest| (source, index) <= (latest.source, latest.index)) {
            return false;
        }
        layer.latest = Some(Latest { source, index, at: now });
        let format = self.format_of(packet.payload_type);
        format == PayloadFormat::Other || format.starts_keyframe(packet.payload)
    }

    /// Whether a layer comes, or may be about to: the track has only just begun.
    fn is_alive(&self, now: Instant, layer: u8) -> bool {
        let latest = self.layers.get(usize::from(layer)).and_then(|layer| layer.latest);
        let heard = latest.map(|latest| latest.at).max(self.since);
        heard.is_some_and(|at| now.since(at) <= self.config.silence)
    }

    /// The layer in whose stead a leg gets another: itself while it comes, else the next below that does, else the next above.
    fn alive_near(&self, now: Instant, layer: u8) -> u8 {
        let comes = |&other: &u8| self.is_alive(now, other);
        let below = (0..=layer).rev().find(comes);
        below.or_else(|| (layer..self.layers.len() as u8).find(comes)).unwrap_or(layer)
    }

    fn rates(&self, now: Instant) -> Rates {
        let mut rates = Rates::default();
        for (at, (rate, layer)) in rates.iter_mut().zip(&self.layers).enumerate() {
            *rate = layer.rate.bps().filter(|_| self.is_alive(now, at as u8));
        }
        rates
    }

    /// The layer that a leg begins with, given what its subscriber's path carries.
    pub fn first_layer(&self, now: Instant, estimate: Option<Estimate>) -> u8 {
        let first = super::layers::first_layer(&self.config, self.layers.len(), estimate);
        if self.since.is_none() { first } else { self.alive_near(now, first) }
    }

    /// A leg was put at the end of the track's legs.
    pub(super) fn leg_added(&mut self, now: Instant) {
        self.selectors.push(LayerSelector::new(now, &self.config));
    }

    /// The leg at `at` was taken out and the last one put in its place.
    pub(super) fn leg_removed(&mut self, at: usize) {
        self.selectors.swap_remove(at);
    }
}

impl Track {
    /// Decides which layer the leg at `leg` of `session` is to get; returns the one that a key frame is wanted of, when that is
    /// another than before.
    pub fn decide_layer(
        &mut self,
        now: Instant,
        session: SessionKey,
        leg: u32,
        estimate: Estimate,
    ) -> Option<u8> {
        let simulcast = self.simulcast.as_mut()?;
        let at = self.legs.iter().position(|l| l.session == session && l.leg == leg)?;
        let leg = self.legs.get_mut(at)?;
        let rates = simulcast.rates(now);
        let standing = Standing { current: leg.layer, target: leg.target };
        let selector = simulcast.selectors.get_mut(at)?;
        leg.target = selector.decide(now, &simulcast.config, standing, estimate, &rates)?;
        (leg.target != leg.layer).then_some(leg.target)
    }

    /// Whether legs wait for a key frame of `layer`, so that its next packet may change who gets what.
    pub fn is_layer_awaited(&self, layer: u8) -> bool {
        let waits = |leg: &LegRef| leg.target == layer && leg.layer != layer;
        self.simulcast.is_some() && self.legs.iter().any(waits)
    }

    /// Takes note of a packet of `bytes` bytes before it is forwarded; the legs that can go on with its layer change to it. Returns
    /// the layers that legs wait for, one bit each, when their publisher is to be asked for key frames. Without simulcast nothing
    /// happens.
    pub fn on_layer_packet(
        &mut self,
        now: Instant,
        packet: &mut PlainRtp<'_>,
        bytes: usize,
        sessions: &mut Slots<SessionKey, Session>,
        counters: &mut ShardCounters,
    ) -> u8 {
        let Some(simulcast) = &mut self.simulcast else { return 0 };
        packet.read_picture(simulcast.format_of(packet.payload_type));
        // Of a muted track nobody would get the key frame.
        if simulcast.on_packet(now, packet, bytes) && !self.muted {
            self.switch_legs(packet.layer, sessions, counters);
        }
        self.check_layers(now)
    }

    /// A key frame of `layer` starts: the legs that wait for it get that layer from here on.
    fn switch_legs(
        &mut self,
        layer: u8,
        sessions: &mut Slots<SessionKey, Session>,
        counters: &mut ShardCounters,
    ) {
        let Some(simulcast) = &self.simulcast else { return };
        let rate = simulcast.layers.get(usize::from(layer)).and_then(|layer| layer.rate.bps());
        for leg in self.legs.iter_mut().filter(|l| l.target == layer && l.layer != layer) {
            let from = self.layers.get(usize::from(leg.layer)).map(|layer| layer.clock);
            let to = self.layers.get(usize::from(layer)).map(|layer| layer.clock);
            let offset = from.zip(to).and_then(|(from, to)| from.offset_to(&to));
            // More is about to be sent: the estimate, which only knows of less, must not call it back at once.
            let estimate = rate.filter(|_| layer > leg.layer);
            if let Some(session) = sessions.get_mut(leg.session) {
                session.sender.switch_layer(leg.leg, layer, offset, estimate);
            }
            leg.layer = layer;
            counters.layer_switches += 1;
        }
    }

    /// Now and then: lets the legs of layers that have stopped wait for others. Returns the layers that legs wait for, one bit
    /// each, whose publisher is to be asked for key frames until they come.
    fn check_layers(&mut self, now: Instant) -> u8 {
        let Some(simulcast) = &mut self.simulcast else { return 0 };
        if simulcast.checked_at.is_some_and(|before| now.since(before) < CHECK_INTERVAL) {
            return 0;
        }
        simulcast.checked_at = Some(now);
        let mut alive = [0; LAYERS_MAX];
        for (layer, near) in alive.iter_mut().enumerate() {
            *near = simulcast.alive_near(now, layer as u8);
        }
        let near = |layer: u8| alive.get(usize::from(layer)).copied().unwrap_or(layer);
        let mut waiting = 0;
        for leg in &mut self.legs {
            if near(leg.target) != leg.target {
                // A switch to what has stopped is given up, unless the current layer has stopped as well.
                leg.target = near(leg.layer);
            } else if leg.target == leg.layer {
                continue;
            }
            if leg.target != leg.layer {
                waiting |= 1 << leg.target;
            }
        }
        waiting
    }
}

impl LegRef {
    /// A leg that gets `layer` from the beginning.
    pub fn new(session: SessionKey, leg: u32, layer: u8) -> Self {
        Self { session, leg, layer, target: layer }
    }
}
