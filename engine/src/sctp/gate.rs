//! What an association is spared: packets that no honest peer sends and that would cost memory or time without bound.
//!
//! `sctp-proto` keeps the receive window in bytes of payload alone, so a peer that sends one byte at a time, leaves gaps or resets
//! streams ahead of their data makes it hold far more than the window says. Each packet is looked at here first. What is dropped is
//! to the peer like a loss: an honest one sends it again. The bounds are:
//!
//! - streams: [`STREAMS`], what we negotiate; the crate would make one for each number that DATA names;
//! - numbers ahead of what we acknowledged: [`WINDOW`], so that gaps do not pile up and a SACK fits a datagram;
//! - chunks held: [`CHUNKS_MAX`], whose order is searched linearly and which cost memory beyond their payload;
//! - a stream's reset waits until its data came and was read, so that no two generations of a stream are held at once;
//! - chunks of a packet that are answered one by one: [`ANSWERED_MAX`];
//! - acknowledgements: one a packet, with gap blocks in ascending order, so that each chunk under way is looked at once.

use super::STREAMS;
use super::packet::{
    Chunk, DATA, FORWARD_TSN, HEARTBEAT, I_FORWARD_TSN, RE_CONFIG, SACK, chunks, u32_at,
};

/// How far ahead of the cumulative acknowledgement DATA may be. A full receive window is 232 packets; the SACK that shows every
/// other one of these missing has 1 052 bytes.
pub(super) const WINDOW: u32 = 512;

/// Chunks of unread and incomplete messages: several of the longest, cut as fine as any stack does.
pub(super) const CHUNKS_MAX: u32 = 4_096;

/// Heartbeats and resets of one packet: each is answered by a packet of its own.
const ANSWERED_MAX: usize = 4;

/// What is to be done with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It goes on.
    Pass,
    /// It is as if it was lost.
    Drop,
    /// The association ends.
    Abort,
}

/// The state of one association's gate.
#[derive(Debug)]
pub(super) struct Gate {
    received: Received,
    /// Chunks that are held; never too low, and right whenever a SACK says that nothing is held.
    held: u32,
    /// Up to where the data must have come for the latest reset; told apart from a lie by the next SACK.
    reset_after: Option<u32>,
}

/// Which transmission sequence numbers came: all up to `acked`, and of the next [`WINDOW`] those whose bit is set.
#[derive(Clone, Debug)]
struct Received {
    acked: u32,
    ahead: [u64; (WINDOW / 64) as usize],
}

impl Gate {
    /// The gate of an association in which the peer's first number will be `first_tsn`.
    pub(super) fn new(first_tsn: u32) -> Self {
        Self { received: Received::up_to(first_tsn.wrapping_sub(1)), held: 0, reset_after: None }
    }

    /// Looks at a packet of the peer whose checksum and tag are right. `is_behind`: messages wait to be read.
    pub(super) fn inspect(&mut self, packet: &[u8], is_behind: bool) -> Verdict {
        let mut received = self.received.clone();
        let (mut fresh, mut answered, mut reset_after) = (0, 0, self.reset_after);
        let (mut sacks, mut skips) = (0, 0);
        for chunk in chunks(packet) {
            let Some(chunk) = chunk else { return Verdict::Drop };
            match chunk.kind {
                DATA => match received.take_data(&chunk) {
                    Some(is_fresh) => fresh += u32::from(is_fresh),
                    None => return Verdict::Drop,
                },
                SACK => {
                    sacks += 1;
                    if !has_ascending_blocks(&chunk) {
                        return Verdict::Drop;
                    }
                }
                FORWARD_TSN => {
                    skips += 1;
                    let Some(to) = u32_at(chunk.value, 0) else { return Verdict::Drop };
                    received.advance(to);
                }
                RE_CONFIG => {
                    answered += 1;
                    if let Some(last) = last_tsn_of_reset(&chunk) {
                        if is_behind || !received.has_all(last) {
                            return Verdict::Drop;
                        }
                        reset_after = Some(last);
                    }
                }
                HEARTBEAT => answered += 1,
                I_FORWARD_TSN => return Verdict::Drop,
                _ => {}
            }
        }
        if answered > ANSWERED_MAX || sacks > 1 || skips > 1 {
            return Verdict::Drop;
        }
        if self.held + fresh > CHUNKS_MAX {
            // Who reads slowly is us; but what cannot be read although nothing stands in its way is hoarded.
            return if is_behind { Verdict::Drop } else { Verdict::Abort };
        }
        self.received = received;
        self.held += fresh;
        self.reset_after = reset_after;
        Verdict::Pass
    }

    /// A message of so many chunks was read.
    pub(super) fn note_read(&mut self, chunks: usize) {
        self.held = self.held.saturating_sub(chunks as u32);
    }

    /// Looks at a packet of ours: a SACK tells what the association really holds, out of `window` bytes.
    pub(super) fn note_sent(&mut self, packet: &[u8], window: u32) -> Verdict {
        for sack in chunks(packet).flatten().filter(|chunk| chunk.kind == SACK) {
            let (Some(acked), Some(free)) = (u32_at(sack.value, 0), u32_at(sack.value, 4)) else {
                continue;
            };
            // Every chunk holds a byte at least.
            self.held = self.held.min(window.saturating_sub(free));
            self.received = Received::from_sack(acked, &sack);
            if self.reset_after.take().is_some_and(|last| is_after(last, acked)) {
                return Verdict::Abort;
            }
        }
        Verdict::Pass
    }
}

impl Received {
    fn up_to(acked: u32) -> Self {
        Self { acked, ahead: [0; (WINDOW / 64) as usize] }
    }

    fn from_sack(acked: u32, sack: &Chunk<'_>) -> Self {
        let mut received = Self::up_to(acked);
        for (start, end) in gap_blocks(sack) {
            for offset in start..=end.min(WINDOW) {
                received.set(offset);
            }
        }
        received
    }

    /// Marks the number `offset` after the acknowledged ones; true when it was not marked before.
    fn set(&mut self, offset: u32) -> bool {
        let (word, bit) = ((offset.wrapping_sub(1) / 64) as usize, offset.wrapping_sub(1) % 64);
        let Some(word) = self.ahead.get_mut(word) else { return false };
        let is_fresh = *word & 1 << bit == 0;
        *word |= 1 << bit;
        is_fresh
    }

    /// Whether a DATA chunk is new; `None` when it is not to be taken. Source: RFC 9260 §3.3.1.
    fn take_data(&mut self, chunk: &Chunk<'_>) -> Option<bool> {
        let tsn = u32_at(chunk.value, 0)?;
        let stream = u16::from_be_bytes([*chunk.value.get(4)?, *chunk.value.get(5)?]);
        // Without user data a chunk is an error (RFC 9260 §6.2).
        if chunk.value.len() < 13 || stream >= STREAMS {
            return None;
        }
        if !is_after(tsn, self.acked) {
            return Some(false);
        }
        let offset = tsn.wrapping_sub(self.acked);
        (offset <= WINDOW).then(|| self.set(offset))
    }

    /// Whether all numbers up to `last` came.
    fn has_all(&self, last: u32) -> bool {
        let whole = self.ahead.iter().take_while(|&&word| word == u64::MAX).count();
        let part = self.ahead.get(whole).map_or(0, |word| word.trailing_ones());
        let contiguous = self.acked.wrapping_add(whole as u32 * 64 + part);
        !is_after(last, contiguous)
    }

    /// The peer gives up what it sent up to `to`. Source: RFC 3758 §3.6.
    fn advance(&mut self, to: u32) {
        if !is_after(to, self.acked) {
            return;
        }
        let by = to.wrapping_sub(self.acked);
        let old = std::mem::replace(self, Self::up_to(to));
        for offset in by.saturating_add(1)..=WINDOW {
            let (word, bit) = (((offset - 1) / 64) as usize, (offset - 1) % 64);
            if old.ahead[word] & 1 << bit != 0 {
                self.set(offset - by);
            }
        }
    }
}

/// Whether `a` comes after `b`, across the wrap. Source: RFC 9260 §1.6.
fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

/// The gap blocks of a SACK: first and last number, counted from the acknowledged one. Source: RFC 9260 §3.3.4.
fn gap_blocks<'a>(sack: &Chunk<'a>) -> impl Iterator<Item = (u32, u32)> + 'a {
    let count = sack.value.get(8..10).map_or(0, |n| usize::from(u16::from_be_bytes([n[0], n[1]])));
    let blocks = sack.value.get(12..).unwrap_or_default().as_chunks::<4>().0;
    let short = |a, b| u32::from(u16::from_be_bytes([a, b]));
    blocks.iter().take(count).map(move |&[a, b, c, d]| (short(a, b), short(c, d)))
}

fn has_ascending_blocks(sack: &Chunk<'_>) -> bool {
    let mut before = 0;
    gap_blocks(sack).all(|(start, end)| {
        let ascends = before < start && start <= end;
        before = end;
        ascends
    })
}

/// The last number before an outgoing stream reset. Source: RFC 6525 §4.1.
fn last_tsn_of_reset(chunk: &Chunk<'_>) -> Option<u32> {
    const OUTGOING_RESET: [u8; 2] = [0, 13];
    let mut parameters = chunk.value;
    while let Some((header, _)) = parameters.split_at_checked(4) {
        if header[..2] == OUTGOING_RESET {
            return u32_at(parameters, 12);
        }
        let len = usize::from(u16::from_be_bytes([header[2], header[3]])).max(4);
        parameters = parameters.get(len.div_ceil(4) * 4..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::packet::HEADER_LEN;
    use super::*;

    fn packet(chunks: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut packet = vec![0; HEADER_LEN];
        for (kind, value) in chunks {
            packet.extend([*kind, 3]);
            packet.extend((value.len() as u16 + 4).to_be_bytes());
            packet.extend(value);
            packet.resize(packet.len().div_ceil(4) * 4, 0);
        }
        packet
    }

    fn data(tsn: u32, stream: u16) -> (u8, Vec<u8>) {
        let mut value = tsn.to_be_bytes().to_vec();
        value.extend(stream.to_be_bytes());
        value.extend([0; 6]);
        value.push(b'x');
        (DATA, value)
    }

    fn reset(last: u32) -> (u8, Vec<u8>) {
        let mut value = vec![0, 13, 0, 18, 0, 0, 0, 1, 0, 0, 0, 0];
        value.extend(last.to_be_bytes());
        value.extend([0, 0]);
        (RE_CONFIG, value)
    }

    fn sack(acked: u32, free: u32, blocks: &[(u16, u16)]) -> Vec<u8> {
        let mut value = acked.to_be_bytes().to_vec();
        value.extend(free.to_be_bytes());
        value.extend((blocks.len() as u16).to_be_bytes());
        value.extend([0, 0]);
        for (start, end) in blocks {
            value.extend([start.to_be_bytes(), end.to_be_bytes()].as_flattened());
        }
        packet(&[(SACK, value)])
    }

    #[test]
    fn data_beyond_the_window_or_the_streams_is_as_if_lost() {
        let mut gate = Gate::new(u32::MAX - 3);
        assert_eq!(gate.inspect(&packet(&[data(u32::MAX - 3, 0)]), false), Verdict::Pass);
        let last = (u32::MAX - 4).wrapping_add(WINDOW);
        assert_eq!(gate.inspect(&packet(&[data(last, 0)]), false), Verdict::Pass);
        let beyond = packet(&[data(last.wrapping_add(1), 0)]);
        assert_eq!(gate.inspect(&beyond, false), Verdict::Drop);
        assert_eq!(gate.note_sent(&sack(u32::MAX - 3, 9, &[]), 9), Verdict::Pass);
        assert_eq!(gate.inspect(&beyond, false), Verdict::Pass);
        let foreign = packet(&[data(5, STREAMS)]);
        assert_eq!(gate.inspect(&foreign, false), Verdict::Drop);
        let (kind, mut value) = data(6, 0);
        value.pop();
        assert_eq!(gate.inspect(&packet(&[(kind, value)]), false), Verdict::Drop);
    }

    #[test]
    fn a_hoard_of_chunks_ends_the_association_and_a_backlog_of_ours_does_not() {
        let mut gate = Gate::new(1);
        for tsn in 1..=CHUNKS_MAX {
            assert_eq!(gate.inspect(&packet(&[data(tsn, 0)]), false), Verdict::Pass);
            // Seen twice, counted once.
            assert_eq!(gate.inspect(&packet(&[data(tsn, 0)]), false), Verdict::Pass);
            gate.note_sent(&sack(tsn, 0, &[]), u32::MAX);
        }
        let next = packet(&[data(CHUNKS_MAX + 1, 0)]);
        assert_eq!(gate.inspect(&next, true), Verdict::Drop);
        gate.note_read(1);
        assert_eq!(gate.inspect(&next, true), Verdict::Pass);
        let after = packet(&[data(CHUNKS_MAX + 2, 0)]);
        assert_eq!(gate.inspect(&after, false), Verdict::Abort);
        // A SACK with the whole window says that nothing is held.
        gate.note_sent(&sack(CHUNKS_MAX + 1, 100, &[]), 100);
        assert_eq!(gate.inspect(&after, false), Verdict::Pass);
    }

    #[test]
    fn a_reset_waits_for_its_data_and_for_us_to_read_it() {
        let mut gate = Gate::new(10);
        assert_eq!(gate.inspect(&packet(&[reset(11)]), false), Verdict::Drop);
        assert_eq!(gate.inspect(&packet(&[data(11, 0)]), false), Verdict::Pass);
        assert_eq!(gate.inspect(&packet(&[reset(11)]), false), Verdict::Drop);
        let both = packet(&[data(10, 0), reset(11)]);
        assert_eq!(gate.inspect(&both, true), Verdict::Drop);
        assert_eq!(gate.inspect(&both, false), Verdict::Pass);
        assert_eq!(gate.note_sent(&sack(11, 9, &[]), 9), Verdict::Pass);
    }

    #[test]
    fn a_reset_after_data_that_was_not_kept_ends_the_association() {
        let mut gate = Gate::new(10);
        assert_eq!(gate.inspect(&packet(&[data(10, 0), reset(10)]), false), Verdict::Pass);
        assert_eq!(gate.note_sent(&sack(9, 0, &[]), 0), Verdict::Abort);
    }

    #[test]
    fn a_sack_and_a_skip_correct_what_came() {
        let mut gate = Gate::new(1);
        gate.note_sent(&sack(4, 9, &[(2, 3), (70, 70)]), 9);
        assert!(!gate.received.has_all(5));
        assert_eq!(gate.inspect(&packet(&[data(5, 0)]), false), Verdict::Pass);
        assert!(gate.received.has_all(7) && !gate.received.has_all(8));
        let skip = packet(&[(FORWARD_TSN, 73_u32.to_be_bytes().to_vec())]);
        assert_eq!(gate.inspect(&skip, false), Verdict::Pass);
        assert!(gate.received.has_all(74) && !gate.received.has_all(75));
    }

    #[test]
    fn a_packet_full_of_questions_is_dropped() {
        let mut gate = Gate::new(1);
        let ask = |count| packet(&vec![(HEARTBEAT, vec![0, 1, 0, 4]); count]);
        assert_eq!(gate.inspect(&ask(ANSWERED_MAX), false), Verdict::Pass);
        assert_eq!(gate.inspect(&ask(ANSWERED_MAX + 1), false), Verdict::Drop);
        assert_eq!(gate.inspect(&packet(&[(I_FORWARD_TSN, vec![0; 4])]), false), Verdict::Drop);
        let skip = (FORWARD_TSN, vec![0, 0, 0, 9]);
        assert_eq!(gate.inspect(&packet(std::slice::from_ref(&skip)), false), Verdict::Pass);
        assert_eq!(gate.inspect(&packet(&[skip.clone(), skip]), false), Verdict::Drop);
    }

    #[test]
    fn an_acknowledgement_names_each_number_once() {
        let mut gate = Gate::new(1);
        let one = sack(4, 9, &[(2, 3), (5, 5)]);
        assert_eq!(gate.inspect(&one, false), Verdict::Pass);
        for blocks in [[(2, 3), (3, 4)], [(2, 3), (2, 3)], [(4, 3), (5, 5)], [(0, 1), (2, 2)]] {
            assert_eq!(gate.inspect(&sack(4, 9, &blocks), false), Verdict::Drop, "{blocks:?}");
        }
        let twice = [&one[..], &one[HEADER_LEN..]].concat();
        assert_eq!(gate.inspect(&twice, false), Verdict::Drop);
    }
}
