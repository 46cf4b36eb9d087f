//! One message read by two parsers. Shared by `engine/tests/wire.rs` and the fuzz target `stun_differential`.

use sluice_engine::wire::stun;
use stun_types::message::{
    Message, MessageClass, MessageIntegrityCredentials, ShortTermCredentials,
};

/// Reads `datagram`, whose framing and FINGERPRINT are right, with both parsers and asserts that they see the same.
/// Returns what ours read, `None` when it refused.
pub(crate) fn compare(datagram: &[u8]) -> Option<stun::Message<'_>> {
    let Ok(ours) = stun::Message::parse(datagram) else {
        // Theirs stops looking where unprotected attributes start, and at the length of MESSAGE-INTEGRITY it looks
        // only when asked, so it cannot be the judge of a refusal.
        assert!(!is_well_framed(datagram), "refused without reason: {datagram:02x?}");
        return None;
    };
    assert!(is_well_framed(datagram), "accepted without reason: {datagram:02x?}");
    let theirs = Message::from_bytes(datagram).expect("what we accept, they accept");
    let value = |wanted: u16| {
        let found = theirs.raw_attribute(wanted.into());
        found.map(|attribute| attribute.value.to_vec())
    };

    let class = match theirs.class() {
        MessageClass::Request => stun::Class::Request,
        MessageClass::Indication => stun::Class::Indication,
        MessageClass::Success => stun::Class::Success,
        MessageClass::Error => stun::Class::Error,
    };
    assert_eq!(ours.class(), class);
    assert_eq!(ours.is_binding(), theirs.method().value() == 1);
    assert_eq!(ours.username().map(<[u8]>::to_vec), value(0x0006));
    assert_eq!(ours.use_candidate(), value(0x0025).is_some());
    let priority = value(0x0024).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    assert_eq!(ours.priority(), priority);
    let tie_breaker = |wanted| {
        value(wanted).and_then(|bytes: Vec<u8>| bytes.try_into().ok()).map(u64::from_be_bytes)
    };
    assert_eq!(ours.ice_controlled(), tie_breaker(0x8029));
    assert_eq!(ours.ice_controlling(), tie_breaker(0x802A));

    assert_eq!(ours.has_integrity(), value(0x0008).is_some());
    if ours.has_integrity() && value(0x001C).is_none() {
        let password = "a password";
        let credentials: MessageIntegrityCredentials =
            ShortTermCredentials::new(password.to_owned()).into();
        let right = theirs.validate_integrity(&credentials).is_ok();
        assert_eq!(ours.verify_integrity(&stun::IntegrityKey::new(password.as_bytes())), right);
    }
    Some(ours)
}

/// Whether all attributes lie within the message, the first integrity attribute (the one that counts) has the length
/// of its hash if it is MESSAGE-INTEGRITY, and FINGERPRINT stands at the end and nowhere else.
fn is_well_framed(datagram: &[u8]) -> bool {
    let mut at = 20;
    let (mut protected, mut fingerprint) = (false, false);
    while at < datagram.len() {
        let Some(&[t0, t1, l0, l1]) = datagram[at..].first_chunk() else { return false };
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        at += 4 + len.next_multiple_of(4);
        match [t0, t1] {
            [0x00, 0x08] if !protected && len != 20 => return false,
            [0x00, 0x08 | 0x1C] => protected = true,
            [0x80, 0x28] if at != datagram.len() || len != 4 => return false,
            [0x80, 0x28] => fingerprint = true,
            _ => {}
        }
    }
    fingerprint && at == datagram.len()
}
