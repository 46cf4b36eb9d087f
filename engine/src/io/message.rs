//! What one receive brought: a datagram, or several of one peer that UDP_GRO joined.

use std::ops::Range;

use crate::clock::NtpTime;
use crate::route::Route;

/// Bytes of the largest message: with UDP_GRO the kernel joins up to 64 KiB.
pub(super) const MESSAGE_BYTES_MAX: usize = 65_536;

/// A received message that is handed out datagram by datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    /// Whose it is.
    pub(super) route: Route,
    /// When the kernel took it from the network, where the socket asks for that (SO_TIMESTAMPNS).
    pub(super) arrived: Option<NtpTime>,
    at: usize,
    end: usize,
    segment: usize,
    left: usize,
}

impl Message {
    /// A message of `len` bytes at `start`, to be cut as `control` says.
    pub(super) fn new(route: Route, start: usize, len: usize, control: Control) -> Self {
        let Control { segment, arrived } = control;
        let segment = if segment == 0 { len } else { segment };
        // An empty datagram is one datagram: the shard counts it.
        let left = if len == 0 { 1 } else { len.div_ceil(segment) };
        Self { route, arrived, at: start, end: start + len, segment, left }
    }

    /// Datagrams not yet taken.
    pub(super) fn datagrams(&self) -> usize {
        self.left
    }

    /// Where the next datagram lies.
    pub(super) fn take(&mut self) -> Option<Range<usize>> {
        self.left = self.left.checked_sub(1)?;
        let end = self.end.min(self.at + self.segment);
        let range = self.at..end;
        self.at = end;
        Some(range)
    }
}

/// What the kernel said of a message beside its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Control {
    /// Bytes of each datagram that UDP_GRO joined, the last may be shorter; 0 when it did not join anything.
    pub(super) segment: usize,
    /// When it arrived, where the socket asks for that.
    pub(super) arrived: Option<NtpTime>,
}

/// Reads the control data of a message.
pub(super) fn read_control(header: &libc::msghdr) -> Control {
    let mut control = Control::default();
    // SAFETY: the caller's header describes control data that is initialised and outlives the call; CMSG_FIRSTHDR and
    // CMSG_NXTHDR stay within `msg_controllen`, and the length is checked before a value is read.
    unsafe {
        let mut cmsg = libc::CMSG_FIRSTHDR(header);
        while !cmsg.is_null() {
            let kind = ((*cmsg).cmsg_level, (*cmsg).cmsg_type);
            let holds = |bytes: usize| {
                (*cmsg).cmsg_len as usize >= libc::CMSG_LEN(bytes as libc::c_uint) as usize
            };
            if kind == (libc::SOL_UDP, libc::UDP_GRO) && holds(size_of::<libc::c_int>()) {
                let size = libc::CMSG_DATA(cmsg).cast::<libc::c_int>().read_unaligned();
                control.segment = usize::try_from(size).unwrap_or(0);
            }
            if kind == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS)
                && holds(size_of::<libc::timespec>())
            {
                let unix = libc::CMSG_DATA(cmsg).cast::<libc::timespec>().read_unaligned();
                control.arrived = Some(NtpTime::from_unix(unix.tv_sec as u64, unix.tv_nsec as u32));
            }
            cmsg = libc::CMSG_NXTHDR(header, cmsg);
        }
    }
    control
}

/// Room for the control messages that a receive may bring, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct ControlRoom(pub(super) [u8; ControlRoom::SIZE]);

impl ControlRoom {
    /// An `int` and a `timespec` are 56 bytes with their heads.
    pub(super) const SIZE: usize = 64;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Transport;

    fn cuts(start: usize, len: usize, segment: usize) -> Vec<(usize, usize)> {
        let remote = "192.0.2.1:1".parse().unwrap();
        let mut message = Message::new(
            Route { transport: Transport::Udp, local: 0, remote },
            start,
            len,
            Control { segment, arrived: None },
        );
        let count = message.datagrams();
        let ranges = std::iter::from_fn(|| message.take());
        let cuts: Vec<_> = ranges.map(|range| (range.start, range.end)).collect();
        assert_eq!(cuts.len(), count);
        cuts
    }

    #[test]
    fn a_joined_message_is_cut_at_its_segments() {
        assert_eq!(cuts(10, 250, 100), [(10, 110), (110, 210), (210, 260)]);
        assert_eq!(cuts(0, 200, 100), [(0, 100), (100, 200)]);
    }

    #[test]
    fn a_single_datagram_stays_whole() {
        assert_eq!(cuts(5, 100, 0), [(5, 105)]);
        assert_eq!(cuts(5, 100, 100), [(5, 105)]);
    }

    #[test]
    fn an_empty_datagram_is_handed_out_once() {
        assert_eq!(cuts(5, 0, 0), [(5, 5)]);
        assert_eq!(cuts(5, 0, 7), [(5, 5)]);
    }
}
