//! A plugin's message of any content is read or refused with words, and what is read can be said back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_control::rtcd::message::{FromPlugin, ToPlugin};

fuzz_target!(|bytes: &[u8]| match FromPlugin::decode(bytes) {
    Ok(FromPlugin::Rtc(rtc)) => {
        let again = FromPlugin::decode(&ToPlugin::Rtc(rtc.clone()).encode());
        assert_eq!(again, Ok(FromPlugin::Rtc(rtc)));
    }
    Ok(_) => {}
    Err(error) => assert!(!error.to_string().is_empty()),
});
