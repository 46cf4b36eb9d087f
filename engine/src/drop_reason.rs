//! Every way in which a datagram can be refused: one byte, one counter.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident => $label:literal,)*) => {
        /// Why a datagram was not used. Counted per shard, never logged above trace.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $name,)* }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)*];

            /// The reason as a metric label.
            pub fn label(self) -> &'static str {
                match self { $(DropReason::$name => $label,)* }
            }
        }
    };
}

drop_reasons! {
    /// The first byte belongs to no protocol we speak (RFC 7983 §7), or the datagram is empty.
    Unclassified => "unclassified",
    /// Not STUN, and from a route that no session has validated.
    UnknownRoute => "unknown_route",
    /// STUN that is malformed or lacks a right FINGERPRINT.
    BadStun => "bad_stun",
    /// A STUN check whose USERNAME names no session of ours.
    UnknownUfrag => "unknown_ufrag",
    /// A STUN check whose MESSAGE-INTEGRITY is missing or wrong.
    BadStunIntegrity => "bad_stun_integrity",
    /// A STUN message that an ICE-lite agent has no use for: responses, indications, foreign methods, roles reversed.
    UnusedStun => "unused_stun",
    /// A check that repeats a transaction id from another route.
    ReplayedCheck => "replayed_check",
    /// A check from an address that another session's peer answers from at this time.
    RouteTaken => "route_taken",
    /// The session has as many validated routes as it may.
    TooManyRoutes => "too_many_routes",
    /// DTLS that the endpoint refused, or DTLS after the session failed.
    BadDtls => "bad_dtls",
    /// Handshake datagrams beyond what the deferred queue holds.
    HandshakeQueueFull => "handshake_queue_full",
    /// Application data of a session without data channels, or before it is connected.
    UnusedData => "unused_data",
    /// More application data in one turn than a session may have handled.
    DataFlood => "data_flood",
    /// SCTP that belongs to no association, or that an honest peer does not send.
    BadSctp => "bad_sctp",
    /// A data channel beyond what a session may open, a message on a stream that is none, or text that is no UTF-8.
    DataRefused => "data_refused",
    /// RTP or RTCP before the handshake gave keys.
    NoKeys => "no_keys",
    /// RTP with a header that does not fit the datagram.
    BadRtp => "bad_rtp",
    /// RTCP whose lengths do not add up.
    BadRtcp => "bad_rtcp",
    /// The SRTP or SRTCP authentication tag is wrong.
    BadTag => "bad_tag",
    /// The SRTP or SRTCP index was seen before or is older than the replay window.
    Replayed => "replayed",
    /// An SSRC that belongs to no track of the session.
    UnknownSsrc => "unknown_ssrc",
    /// An SSRC of a simulcast track whose packet names none of its layers (RFC 8852 §3).
    UnknownRid => "unknown_rid",
    /// A track has had more SSRCs than can be counted.
    TooManySsrcs => "too_many_ssrcs",
    /// A payload type that was not negotiated for the track.
    UnknownPayloadType => "unknown_payload_type",
    /// A packet that had already arrived, by itself or as a retransmission.
    Duplicate => "duplicate",
    /// A retransmission without payload, or of something nobody misses.
    UselessRtx => "useless_rtx",
    /// A retransmission that could not repeat the original to the bit: its transport-wide number is no longer known.
    NotRepeatable => "not_repeatable",
    /// The leg's subscriber did not negotiate this payload type.
    UnmappedPayloadType => "unmapped_payload_type",
    /// A packet older than the first that the leg got.
    BeforeLeg => "before_leg",
    /// The leg's subscriber is not connected.
    NotConnected => "not_connected",
    /// The egress of this turn was full.
    EgressFull => "egress_full",
    /// The packet would be larger than a datagram may be after rewriting.
    TooLarge => "too_large",
    /// The kernel refused the datagram: its buffer was full, or the route is unreachable.
    SendRefused => "send_refused",
    /// A TCP peer that does not read: its write buffer was full.
    TcpBacklog => "tcp_backlog",
    /// The ring to the owning shard was full.
    RelayFull => "relay_full",
    /// A packet of a track for which the ring to a shard with subscribers of it had no room: lost to all of them.
    TrackRelayFull => "track_relay_full",
    /// A packet of another shard's track that nobody here gets, or that is of another call.
    UnknownRelay => "unknown_relay",
    /// The session is closing.
    SessionClosed => "session_closed",
}

/// One counter per reason.
#[derive(Clone, Debug)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl Default for DropCounters {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl DropCounters {
    /// Counts one datagram.
    pub fn count(&mut self, reason: DropReason) {
        self.add(reason, 1);
    }

    /// Counts `n` datagrams.
    pub fn add(&mut self, reason: DropReason, n: u64) {
        self.0[reason as usize] += n;
    }

    /// Adds the counts of `other` and sets them to zero.
    pub fn take_from(&mut self, other: &mut Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&mut other.0) {
            *mine += std::mem::take(theirs);
        }
    }

    /// Datagrams dropped for `reason`.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&reason| (reason, self.of(reason)))
    }
}
