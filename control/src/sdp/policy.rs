//! What each kind of session may negotiate.

use sluice_engine::session::params::MediaKind;
use sluice_engine::wire::rtp_ext::Extension;

use super::SECTIONS_MAX;
use super::codecs::{CodecName, Feedback};
use super::error::NegotiationError;
use super::parse::{Description, MediaSection, SectionKind};

/// What kind of session this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Whether the peer may send media.
    pub publish: bool,
    /// Whether the peer is sent media.
    pub subscribe: bool,
    /// Whether we may make offers. Without it, tracks are only ever placed in sections that the peer offers.
    pub offers: bool,
    /// Whether tracks may be placed in sections that the peer made for itself. Without it they only come by our offers, in sections
    /// of our own: whoever must hear beforehand what a section will carry can be told.
    pub place_in_answers: bool,
    /// Whether an audio or video section without a common codec fails the whole offer instead of being rejected alone.
    pub all_or_nothing: bool,
    /// Whether an offer may have at most one audio and one video section. Source: RFC 9725 §4.4.2.
    pub one_of_each_kind: bool,
    /// The most tracks that the peer may publish at a time; an offer of more is refused.
    pub tracks_max: usize,
    /// Whether data channels are taken (RFC 8841); their section is rejected otherwise.
    pub data_channel: bool,
    /// Whether simulcast of the peer is taken (RFC 8853); its sections stay without it otherwise.
    pub simulcast: bool,
    /// Whether what the peer is sent carries transport-wide sequence numbers, for estimating its link; only if it reports on them.
    pub transport_cc: bool,
    /// The codecs that are taken and offered.
    pub codecs: &'static [CodecName],
}

impl Policy {
    /// Publishes, subscribes, and is offered what others publish.
    pub const NATIVE: Self = Self {
        publish: true,
        subscribe: true,
        offers: true,
        place_in_answers: true,
        all_or_nothing: false,
        one_of_each_kind: false,
        tracks_max: SECTIONS_MAX,
        data_channel: false,
        simulcast: false,
        transport_cc: false,
        codecs: &CodecName::ALL,
    };
    /// Publishes only; answers are `recvonly`, and there is no partial success. Source: RFC 9725 §4.2, §4.4.
    pub const WHIP: Self = Self {
        subscribe: false,
        offers: false,
        all_or_nothing: true,
        one_of_each_kind: true,
        ..Self::NATIVE
    };
    /// Is sent media only; answers are `sendonly`.
    pub const WHEP: Self = Self { publish: false, offers: false, ..Self::NATIVE };
    /// A client of rtcd: as a native one, with a data channel, simulcast and few codecs. Clients learn by a message of ours, before
    /// they apply a description, what each section carries; so sections that they made for their own media carry nothing else.
    pub const RTCD: Self = Self {
        place_in_answers: false,
        // A microphone, a screen with its sound in two codecs, a camera in two codecs, and as much again while one takes the place of
        // the other. Each fills an m= section of everybody else's.
        tracks_max: 16,
        data_channel: true,
        simulcast: true,
        transport_cc: true,
        codecs: &[CodecName::Opus, CodecName::Vp8, CodecName::Av1],
        ..Self::NATIVE
    };

    /// Whether a leg may carry a header extension. Send times are not among them, and stream ids of simulcast mean nothing on a leg.
    pub(super) fn sends(&self, extension: Extension) -> bool {
        match extension {
            Extension::Mid => true,
            Extension::TransportCc => self.transport_cc,
            other => other.is_forwarded(),
        }
    }

    /// The feedback that we offer to subscribers.
    pub(super) fn feedback(&self, kind: MediaKind) -> Feedback {
        let feedback = match kind {
            MediaKind::Audio => Feedback::default(),
            MediaKind::Video => Feedback::TO_SUBSCRIBERS,
        };
        Feedback { transport_cc: self.transport_cc, ..feedback }
    }

    /// Checks what can be said of an offer without knowing which sections are accepted.
    pub(super) fn check_sections(&self, offer: &Description) -> Result<(), NegotiationError> {
        let count = |kind| {
            let is_such = |s: &&MediaSection| s.kind == SectionKind::Media(kind);
            offer.sections.iter().filter(is_such).count()
        };
        if self.one_of_each_kind && (count(MediaKind::Audio) > 1 || count(MediaKind::Video) > 1) {
            return Err(NegotiationError::unsupported(
                "the session",
                "an offer to publish has at most one audio and one video section (RFC 9725 §4.4.2)",
            ));
        }
        Ok(())
    }

    /// Checks how many tracks the accepted sections would publish.
    pub(super) fn check_tracks(
        &self,
        offer: &Description,
        accepted: &[bool],
    ) -> Result<(), NegotiationError> {
        let publishes = |(section, accepted): &(&MediaSection, &bool)| {
            **accepted
                && matches!(section.kind, SectionKind::Media(_))
                && section.direction.send
                && self.publish
        };
        let tracks = offer.sections.iter().zip(accepted).filter(publishes).count();
        if tracks > self.tracks_max {
            let most = self.tracks_max;
            return Err(NegotiationError::LimitReached {
                problem: format!("the offer publishes {tracks} tracks; a session may have {most}"),
            });
        }
        Ok(())
    }

    /// The codecs of one kind by name, for telling a peer that has none of them.
    pub(super) fn codec_names(&self, kind: MediaKind) -> String {
        let names: Vec<&str> =
            self.codecs.iter().filter(|c| c.kind() == kind).map(|c| c.as_str()).collect();
        names.join(", ")
    }
}
