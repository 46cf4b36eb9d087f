//! As much of SCTP's packet format as it takes to look at what comes and goes. Source: RFC 9260 §3.

/// Source and destination port, verification tag, checksum.
pub(super) const HEADER_LEN: usize = 12;
/// The I bit of a DATA chunk. Source: RFC 7053 §3.
const IMMEDIATE: u8 = 0x08;
/// Type, flags, length.
const CHUNK_HEADER_LEN: usize = 4;

pub(super) const DATA: u8 = 0;
pub(super) const INIT: u8 = 1;
pub(super) const SACK: u8 = 3;
pub(super) const HEARTBEAT: u8 = 4;
pub(super) const ABORT: u8 = 6;
pub(super) const SHUTDOWN_COMPLETE: u8 = 14;
/// Source: RFC 6525 §3.1.
pub(super) const RE_CONFIG: u8 = 130;
/// Source: RFC 3758 §3.2.
pub(super) const FORWARD_TSN: u8 = 192;
/// Source: RFC 8260 §2.3.1. Never negotiated here.
pub(super) const I_FORWARD_TSN: u8 = 194;

/// One chunk: its type, its flags and what follows its header, padding excluded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chunk<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) value: &'a [u8],
}

/// The chunks of a packet in order; `None` in place of one whose length is wrong, which ends the walk.
pub(super) fn chunks(packet: &[u8]) -> impl Iterator<Item = Option<Chunk<'_>>> {
    let mut rest = packet.get(HEADER_LEN..).unwrap_or_default();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let chunk = first_chunk(rest);
        let taken =
            chunk.map_or(rest.len(), |c| (CHUNK_HEADER_LEN + c.value.len()).div_ceil(4) * 4);
        // The padding of the last chunk may be missing.
        rest = rest.get(taken..).unwrap_or_default();
        Some(chunk)
    })
}

fn first_chunk(bytes: &[u8]) -> Option<Chunk<'_>> {
    let (header, _) = bytes.split_at_checked(CHUNK_HEADER_LEN)?;
    let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let value = bytes.get(CHUNK_HEADER_LEN..len)?;
    Some(Chunk { kind: header[0], flags: header[1], value })
}

/// Cuts a packet into several of `len_max` bytes at most, between chunks. A chunk that is too long by itself is left out.
///
/// `sctp-proto` puts chunks that it sends again together without counting their padding: small messages make a packet that no
/// datagram holds. It also echoes heartbeats of any length.
pub(super) fn cut(packet: &[u8], len_max: usize) -> Vec<Vec<u8>> {
    let Some((header, mut rest)) = packet.split_at_checked(HEADER_LEN) else { return Vec::new() };
    let mut parts = vec![header.to_vec()];
    while let Some(chunk) = first_chunk(rest) {
        let len = (CHUNK_HEADER_LEN + chunk.value.len()).div_ceil(4) * 4;
        let (bytes, after) = rest.split_at(len.min(rest.len()));
        rest = after;
        if HEADER_LEN + bytes.len() > len_max {
            continue;
        }
        match parts.last_mut() {
            Some(part) if part.len() + bytes.len() <= len_max => part.extend_from_slice(bytes),
            _ => parts.push([header, bytes].concat()),
        }
    }
    parts.retain(|part| part.len() > HEADER_LEN);
    parts.iter_mut().for_each(|part| write_checksum(part));
    parts
}

/// The four bytes at `at`, where there are as many.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// The initiate tag of an INIT that a packet begins with.
pub(super) fn initiate_tag(packet: &[u8]) -> Option<u32> {
    let first = chunks(packet).next()??;
    (first.kind == INIT).then(|| u32_at(first.value, 0))?
}

/// Asks the peer to acknowledge a packet's data at once. Source: RFC 7053 §3.
pub(super) fn ask_for_sack(packet: &mut [u8]) {
    let mut at = HEADER_LEN;
    let mut is_changed = false;
    while let Some(chunk) = packet.get(at..).and_then(first_chunk) {
        let (kind, len) = (chunk.kind, CHUNK_HEADER_LEN + chunk.value.len());
        if kind == DATA {
            packet[at + 1] |= IMMEDIATE;
            is_changed = true;
        }
        at += len.div_ceil(4) * 4;
    }
    // A packet without a checksum stays one. Source: RFC 9653 §5.2.
    if is_changed && packet[8..HEADER_LEN] != [0; 4] {
        write_checksum(packet);
    }
}

/// The destination port.
pub(super) fn destination_port(packet: &[u8]) -> Option<u16> {
    packet.get(2..4)?.try_into().ok().map(u16::from_be_bytes)
}

/// An ABORT without a cause, in answer to a peer that sent `packet` and awaits `tag`. Source: RFC 9260 §3.3.7.
pub(super) fn abort(ports: [u16; 2], tag: u32) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER_LEN + CHUNK_HEADER_LEN);
    packet.extend(ports.map(u16::to_be_bytes).as_flattened());
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([ABORT, 0, 0, CHUNK_HEADER_LEN as u8]);
    write_checksum(&mut packet);
    packet
}

/// Puts the right checksum into a packet. Source: RFC 9260 §6.8.
#[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "public for fuzz bodies"))]
pub fn write_checksum(packet: &mut [u8]) {
    if packet.len() < HEADER_LEN {
        return;
    }
    packet[8..HEADER_LEN].fill(0);
    let checksum = crc32c(packet);
    // The one field of the protocol that is little-endian. Source: RFC 9260 appendix A.
    packet[8..HEADER_LEN].copy_from_slice(&checksum.to_le_bytes());
}

/// CRC-32C, bit by bit: it is taken of the few packets alone that are written or changed here. Source: RFC 9260 appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_that_of_the_standard() {
        // RFC 3720 §B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_packet_that_is_too_long_is_cut_between_chunks() {
        let chunk = |kind: u8, len: usize| {
            let mut bytes = vec![kind, 0, 0, (CHUNK_HEADER_LEN + len) as u8];
            bytes.resize(bytes.len() + len.div_ceil(4) * 4, kind);
            bytes
        };
        let header = [7; HEADER_LEN];
        let all = [chunk(SACK, 12), chunk(DATA, 13), chunk(HEARTBEAT, 90), chunk(DATA, 13)];
        let cut = cut(&[&header[..], &all.concat()].concat(), 60);
        let whole = |chunks: &[&[u8]]| {
            let mut packet = [&header[..], &chunks.concat()].concat();
            write_checksum(&mut packet);
            packet
        };
        assert_eq!(cut, [whole(&[&all[0], &all[1]]), whole(&[&all[3]])]);
        assert!(super::cut(&header[..5], 60).is_empty());
    }

    #[test]
    fn data_is_marked_and_nothing_else() {
        let mut packet = vec![1; HEADER_LEN];
        packet.extend([SACK, 0, 0, 6, 1, 2, 0, 0, DATA, 3, 0, 5, 7, 0, 0, 0]);
        let mut unchecked = packet.clone();
        unchecked[8..HEADER_LEN].fill(0);

        let mut wanted = packet.clone();
        wanted[HEADER_LEN + 9] = 3 | 8;
        write_checksum(&mut wanted);
        ask_for_sack(&mut packet);
        assert_eq!(packet, wanted);

        wanted[8..HEADER_LEN].fill(0);
        ask_for_sack(&mut unchecked);
        assert_eq!(unchecked, wanted);
    }

    #[test]
    fn chunks_are_walked_over_their_padding() {
        let mut packet = vec![0; HEADER_LEN];
        packet.extend([DATA, 3, 0, 5, 7, 0, 0, 0, SACK, 0, 0, 6, 1, 2]);
        let found: Vec<_> = chunks(&packet).collect();
        let data = Chunk { kind: DATA, flags: 3, value: &[7] };
        let sack = Chunk { kind: SACK, flags: 0, value: &[1, 2] };
        assert_eq!(found, [Some(data), Some(sack)]);
    }

    #[test]
    fn a_wrong_length_ends_the_walk() {
        for len in [0, 3, 9] {
            let mut packet = vec![0; HEADER_LEN];
            packet.extend([DATA, 0, 0, len, 1, 2, 3, 4]);
            assert_eq!(chunks(&packet).collect::<Vec<_>>(), [None], "length {len}");
        }
        assert_eq!(chunks(&[0; 5]).count(), 0);
    }
}
