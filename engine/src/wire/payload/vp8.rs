//! The VP8 payload descriptor, read and renumbered in place. Source: RFC 7741 §4.2, §4.3.

/// Numbers that grow from frame to frame, and that a receiver expects to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PictureNumbers {
    /// PictureID, 15 bits; of the short form the low 7 are meant. 0 when absent.
    pub id: u16,
    /// TL0PICIDX. 0 when absent.
    pub tl0: u8,
}

impl PictureNumbers {
    /// These numbers moved on by `shift`, wrapping as the fields do.
    pub fn moved_by(self, shift: Self) -> Self {
        Self { id: self.id.wrapping_add(shift.id) & ID_MASK, tl0: self.tl0.wrapping_add(shift.tl0) }
    }

    /// The shift that turns `self` into what comes one after `last`.
    pub fn shift_to_follow(self, last: Self) -> Self {
        Self {
            id: last.id.wrapping_add(1).wrapping_sub(self.id) & ID_MASK,
            tl0: last.tl0.wrapping_add(1).wrapping_sub(self.tl0),
        }
    }
}

/// What a payload descriptor says, and where its numbers stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// Whether the payload is the first of a key frame: S set, partition 0, and the frame header's P bit clear.
    pub starts_keyframe: bool,
    /// Its numbers.
    pub numbers: PictureNumbers,
    id: Option<IdForm>,
    tl0_at: Option<usize>,
}

/// PictureID stands in the third byte when it is there, in one byte or two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum IdForm {
    Short,
    Long,
}

const ID_MASK: u16 = 0x7FFF;
const ID_AT: usize = 2;

impl Descriptor {
    /// Reads the descriptor at the start of a payload; `None` when it does not fit.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let (mut id, mut tl0_at) = (None, None);
        let mut numbers = PictureNumbers::default();
        let mut len = 1;
        if first & 0x80 != 0 {
            let present = *payload.get(1)?;
            len = 2;
            if present & 0x80 != 0 {
                let high = *payload.get(ID_AT)?;
                if high & 0x80 != 0 {
                    let low = *payload.get(ID_AT + 1)?;
                    numbers.id = u16::from_be_bytes([high, low]) & ID_MASK;
                    id = Some(IdForm::Long);
                    len += 2;
                } else {
                    numbers.id = u16::from(high);
                    id = Some(IdForm::Short);
                    len += 1;
                }
            }
            if present & 0x40 != 0 {
                numbers.tl0 = *payload.get(len)?;
                tl0_at = Some(len);
                len += 1;
            }
            // TID, Y and KEYIDX share one byte.
            if present & 0x30 != 0 {
                len += 1;
            }
        }
        let frame = *payload.get(len)?;
        let is_start = first & 0x10 != 0 && first & 0x07 == 0;
        Some(Self { starts_keyframe: is_start && frame & 1 == 0, numbers, id, tl0_at })
    }

    /// Writes other numbers into the payload that this was read from, in the form they have there; its length stays.
    pub fn renumber(&self, payload: &mut [u8], numbers: PictureNumbers) {
        match (self.id, payload.get_mut(ID_AT..)) {
            (Some(IdForm::Long), Some([high, low, ..])) => {
                [*high, *low] = (numbers.id | 0x8000).to_be_bytes();
            }
            (Some(IdForm::Short), Some([id, ..])) => *id = numbers.id as u8 & 0x7F,
            _ => {}
        }
        if let Some(tl0) = self.tl0_at.and_then(|at| payload.get_mut(at)) {
            *tl0 = numbers.tl0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_starts_where_s_is_set_partition_is_0_and_p_is_clear() {
        let cases: &[(&[u8], Option<bool>)] = &[
            (&[], None),
            (&[0x10], None),
            (&[0x10, 0x00], Some(true)),
            (&[0x10, 0x01], Some(false)), // an interframe
            (&[0x00, 0x00], Some(false)), // not the start of a partition
            (&[0x11, 0x00], Some(false)), // of partition 1
            (&[0x90, 0x80], None),        // X and I, and no PictureID
            (&[0x90, 0x80, 0x7F, 0x00], Some(true)),
            (&[0x90, 0x80, 0xFF], None),
            (&[0x90, 0x80, 0xFF, 0xFF], None),
            (&[0x90, 0x80, 0xFF, 0xFF, 0x00], Some(true)),
            (&[0x90, 0xF0, 0xFF, 0xFF, 0x05, 0x20, 0x00], Some(true)),
            (&[0x90, 0xF0, 0xFF, 0xFF, 0x05, 0x20], None),
            (&[0x90, 0x20, 0x40, 0x01], Some(false)),
        ];
        for (payload, expected) in cases {
            let read = Descriptor::read(payload).map(|d| d.starts_keyframe);
            assert_eq!(read, *expected, "{payload:02x?}");
        }
    }

    #[test]
    fn numbers_are_read_and_written_in_their_form() {
        type Case<'a> = (&'a [u8], (u16, u8), &'a [u8]);
        let cases: &[Case<'_>] = &[
            (&[0x90, 0xC0, 0x92, 0x34, 7, 0], (0x1234, 7), &[0x90, 0xC0, 0xD5, 0x43, 9, 0]),
            (&[0x90, 0xC0, 0x12, 7, 0, 0], (0x12, 7), &[0x90, 0xC0, 0x43, 9, 0, 0]),
            (&[0x90, 0x80, 0x92, 0x34, 7, 0], (0x1234, 0), &[0x90, 0x80, 0xD5, 0x43, 7, 0]),
            (&[0x90, 0x40, 7, 0, 0, 0], (0, 7), &[0x90, 0x40, 9, 0, 0, 0]),
            (&[0x10, 0, 7, 0, 0, 0], (0, 0), &[0x10, 0, 7, 0, 0, 0]),
        ];
        for (payload, (id, tl0), expected) in cases {
            let descriptor = Descriptor::read(payload).unwrap();
            assert_eq!(descriptor.numbers, PictureNumbers { id: *id, tl0: *tl0 });
            let mut renumbered = payload.to_vec();
            descriptor.renumber(&mut renumbered, PictureNumbers { id: 0x5543, tl0: 9 });
            assert_eq!(renumbered, *expected, "{payload:02x?}");
        }
    }

    #[test]
    fn a_shift_makes_the_next_follow_the_last_and_wraps() {
        let cases = [((100, 5), (200, 9)), ((200, 9), (100, 5)), ((0, 0), (0x7FFF, 255))];
        for ((id, tl0), (last_id, last_tl0)) in cases {
            let first = PictureNumbers { id, tl0 };
            let last = PictureNumbers { id: last_id, tl0: last_tl0 };
            let shift = first.shift_to_follow(last);
            let moved = first.moved_by(shift);
            assert_eq!(moved.id, last_id.wrapping_add(1) & 0x7FFF);
            assert_eq!(moved.tl0, last_tl0.wrapping_add(1));
        }
    }
}
