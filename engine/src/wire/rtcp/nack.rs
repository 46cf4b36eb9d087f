//! Generic negative acknowledgement. Source: RFC 4585 §6.2.1.

use super::{FMT_NACK, TRANSPORT_FEEDBACK, read_feedback_ssrcs, write_feedback};
use crate::ids::{SeqNum, Ssrc};
use crate::wire::cursor::{Reader, Writer};

/// A negative acknowledgement as received.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    sender: Ssrc,
    media: Ssrc,
    pairs: &'a [u8],
}

impl<'a> View<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let (sender, media) = read_feedback_ssrcs(&mut reader)?;
        Some(Self { sender, media, pairs: reader.rest() })
    }

    /// Who asks.
    pub fn sender(&self) -> Ssrc {
        self.sender
    }

    /// Whose packets are asked for.
    pub fn media(&self) -> Ssrc {
        self.media
    }

    /// The packets asked for, in the order of the message. A hostile one may name the same packet many times,
    /// 17 for each four bytes of it: whoever answers needs a budget.
    pub fn lost(&self) -> impl Iterator<Item = SeqNum> + use<'a> {
        let mut reader = Reader::new(self.pairs);
        let pairs = std::iter::from_fn(move || Some((reader.u16()?, reader.u16()?)));
        pairs.flat_map(|(pid, bitmask)| {
            let behind = (0..16_u16).filter(move |bit| bitmask >> bit & 1 != 0).map(|bit| bit + 1);
            std::iter::once(0).chain(behind).map(move |ahead| SeqNum(pid.wrapping_add(ahead)))
        })
    }
}

/// Writes a negative acknowledgement for `lost`, which is sorted ascending in wrapping order.
///
/// An unsorted list is asked for all the same and only packs worse. `None` when `lost` is empty or the packet does not
/// fit into `out`; each four bytes hold up to 17 numbers that stand close together, behind 12 of header.
/// Source: RFC 4585 §6.2.1.
pub fn write(out: &mut [u8], sender: Ssrc, media: Ssrc, lost: &[SeqNum]) -> Option<usize> {
    let (first, rest) = lost.split_first()?;
    write_feedback(out, (FMT_NACK, TRANSPORT_FEEDBACK), sender, media, |writer| {
        let (mut pid, mut bitmask) = (first.0, 0_u16);
        for seq in rest {
            match seq.0.wrapping_sub(pid) {
                0 => {}
                ahead @ 1..=16 => bitmask |= 1 << (ahead - 1),
                _ => {
                    write_pair(writer, pid, bitmask)?;
                    (pid, bitmask) = (seq.0, 0);
                }
            }
        }
        write_pair(writer, pid, bitmask)
    })
}

fn write_pair(writer: &mut Writer<'_>, pid: u16, bitmask: u16) -> Option<()> {
    writer.u16(pid)?;
    writer.u16(bitmask)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_needs, for_each_truncation, only_packet};
    use super::super::{Packet, packets};
    use super::*;

    fn written(lost: &[u16]) -> Vec<u8> {
        let lost: Vec<_> = lost.iter().copied().map(SeqNum).collect();
        let mut out = [0; 2000];
        let len = write(&mut out, Ssrc(1), Ssrc(2), &lost).unwrap();
        out[..len].to_vec()
    }

    fn read(bytes: &[u8]) -> Vec<u16> {
        let Packet::Nack(view) = only_packet(bytes) else { panic!("not a nack") };
        assert_eq!((view.sender(), view.media()), (Ssrc(1), Ssrc(2)));
        view.lost().map(|seq| seq.0).collect()
    }

    #[test]
    fn seventeen_in_a_row_take_one_pair() {
        let lost: Vec<u16> = (100..117).collect();
        let bytes = written(&lost);
        assert_eq!(bytes[12..], [0, 100, 0xFF, 0xFF]);
        assert_eq!(read(&bytes), lost);
        assert_eq!(written(&(100..118).collect::<Vec<_>>()).len(), 20);
    }

    #[test]
    fn lists_round_trip_across_the_wrap() {
        for lost in [
            &[7][..],
            &[65_530, 65_535, 0, 10, 11],
            &[1, 17, 18, 19, 500],
            &[0, 16, 17, 33, 34],
            &[65_535, 15, 16],
        ] {
            assert_eq!(read(&written(lost)), lost);
        }
    }

    #[test]
    fn random_sorted_lists_round_trip() {
        let mut random = fastrand::Rng::with_seed(4585);
        for _ in 0..500 {
            let mut seq = random.u16(..);
            let lost: Vec<u16> = (0..random.usize(1..200))
                .map(|_| {
                    seq = seq.wrapping_add(random.u16(1..40));
                    seq
                })
                .collect();
            assert_eq!(read(&written(&lost)), lost);
        }
    }

    #[test]
    fn unsorted_and_repeated_numbers_are_still_asked_for() {
        let mut read = read(&written(&[500, 100, 100, 101, 90]));
        read.sort();
        assert_eq!(read, [90, 100, 101, 500]);
    }

    #[test]
    fn nothing_lost_is_nothing_to_write() {
        assert_eq!(write(&mut [0; 100], Ssrc(1), Ssrc(2), &[]), None);
    }

    #[test]
    fn cut_messages_lose_pairs_and_nothing_else() {
        let bytes = written(&[1, 100, 200]);
        for_each_truncation(&bytes, |cut| match packets(cut).next().unwrap() {
            Ok(Packet::Nack(view)) => assert_eq!(view.lost().count(), cut.len() / 4 - 3),
            other => assert!(other.is_err() && cut.len() < 12),
        });
    }

    #[test]
    fn small_room_is_refused() {
        assert_needs(20, |out| write(out, Ssrc(1), Ssrc(2), &[SeqNum(1), SeqNum(100)]));
    }
}
