//! Source description; of its items only the canonical name. Source: RFC 3550 §6.5.

use super::{SDES, write_packet};
use crate::ids::Ssrc;
use crate::wire::cursor::Reader;

/// A source description as received.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    cnames: Cnames<'a>,
}

impl<'a> View<'a> {
    /// Walks all chunks once, so that [`View::cnames`] meets no broken one.
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        let cnames = Cnames { chunks_left: count, rest: Reader::new(body) };
        let mut walk = cnames;
        for _ in 0..count {
            read_chunk(&mut walk.rest)?;
        }
        Some(Self { cnames })
    }

    /// The canonical name of each source that states one, as bytes of any kind; 31 at most.
    pub fn cnames(&self) -> Cnames<'a> {
        self.cnames
    }
}

/// Sources and their canonical names, see [`View::cnames`].
#[derive(Clone, Copy, Debug)]
pub struct Cnames<'a> {
    chunks_left: u8,
    rest: Reader<'a>,
}

impl<'a> Iterator for Cnames<'a> {
    type Item = (Ssrc, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while self.chunks_left > 0 {
            self.chunks_left -= 1;
            let (ssrc, cname) = read_chunk(&mut self.rest)?;
            if let Some(cname) = cname {
                return Some((ssrc, cname));
            }
        }
        None
    }
}

/// Reads one chunk with its padding: a source, and its canonical name if it states one.
fn read_chunk<'a>(reader: &mut Reader<'a>) -> Option<(Ssrc, Option<&'a [u8]>)> {
    let ssrc = Ssrc(reader.u32()?);
    let mut cname = None;
    loop {
        let item = reader.u8()?;
        if item == END {
            break;
        }
        let len = usize::from(reader.u8()?);
        let text = reader.bytes(len)?;
        if item == CNAME && cname.is_none() {
            cname = Some(text);
        }
    }
    // A chunk ends at a whole word of the packet, and so does the packet.
    reader.bytes(reader.rest().len() % 4)?;
    Some((ssrc, cname))
}

/// Writes a source description of one chunk with a canonical name; `None` when it does not fit into `out` or
/// `cname` has more than 255 bytes. Source: RFC 3550 §6.5.1.
pub fn write_cname(out: &mut [u8], ssrc: Ssrc, cname: &[u8]) -> Option<usize> {
    let len = u8::try_from(cname.len()).ok()?;
    write_packet(out, 1, SDES, |writer| {
        writer.u32(ssrc.0)?;
        writer.u8(CNAME)?;
        writer.u8(len)?;
        writer.bytes(cname)?;
        writer.u8(END) // more zeros follow up to the word
    })
}

const END: u8 = 0;
const CNAME: u8 = 1;

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_needs, for_each_truncation, only_packet};
    use super::super::{Packet, packets};
    use super::*;

    fn read(bytes: &[u8]) -> Vec<(Ssrc, Vec<u8>)> {
        let Packet::Sdes(view) = only_packet(bytes) else { panic!("not a description") };
        view.cnames().map(|(ssrc, cname)| (ssrc, cname.to_vec())).collect()
    }

    #[test]
    fn round_trip_of_names_of_any_length() {
        for len in 0..=255 {
            let cname = vec![b'n'; len];
            let mut out = [0xEE; 300];
            let written = write_cname(&mut out, Ssrc(5), &cname).unwrap();
            assert_eq!(read(&out[..written]), [(Ssrc(5), cname)]);
        }
        assert_eq!(write_cname(&mut [0; 400], Ssrc(5), &[b'n'; 256]), None);
    }

    #[test]
    fn an_item_list_always_ends_in_a_zero() {
        let mut out = [0xEE; 16];
        assert_eq!(write_cname(&mut out, Ssrc(5), b"ab"), Some(16));
        assert_eq!(out, [0x81, 202, 0, 3, 0, 0, 0, 5, 1, 2, b'a', b'b', 0, 0, 0, 0]);
    }

    #[test]
    fn chunks_without_a_name_are_passed_over() {
        let bytes = [
            &[0x83, 202, 0, 7][..],
            &[0, 0, 0, 1, 2, 3, b'x', b'y', b'z', 0, 0, 0], // NAME only
            &[0, 0, 0, 2, 0, 0, 0, 0],                      // no item
            &[0, 0, 0, 3, 1, 1, b'c', 0],
        ];
        assert_eq!(read(&bytes.concat()), [(Ssrc(3), b"c".to_vec())]);
    }

    #[test]
    fn chunks_that_are_not_all_there_are_refused() {
        let mut out = [0; 28];
        assert_eq!(write_cname(&mut out, Ssrc(5), b"a name of bytes"), Some(28));
        for_each_truncation(&out, |cut| assert!(packets(cut).next().unwrap().is_err()));
        out[9] = 200; // the item reaches past the end
        assert!(packets(&out).next().unwrap().is_err());
        out[9] = 18; // the item list has no end
        assert!(packets(&out).next().unwrap().is_err());
    }

    #[test]
    fn small_room_is_refused() {
        assert_needs(16, |out| write_cname(out, Ssrc(5), b"ab"));
    }
}
