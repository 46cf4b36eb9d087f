//! A peer's message of any content is read or refused with words, and a description that is read can be sent on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_control::rtcd::channel_message::{FromPeer, SDP_JSON_BYTES_MAX, ToPeer};
use sluice_engine::shard::mailbox::DataKind;

fuzz_target!(|bytes: &[u8]| {
    let _ = FromPeer::decode(DataKind::Text, bytes);
    match FromPeer::decode(DataKind::Binary, bytes) {
        Ok(FromPeer::Sdp(json)) => {
            assert!(json.len() <= SDP_JSON_BYTES_MAX);
            if let Ok(text) = std::str::from_utf8(&json) {
                let (kind, encoded) = ToPeer::Sdp(text).encode();
                assert_eq!(FromPeer::decode(kind, &encoded), Ok(FromPeer::Sdp(json.clone())));
            }
        }
        Ok(FromPeer::LossRate(value)) => assert!((0.0..=1.0).contains(&value)),
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
