//! A configuration file of any content is read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_control::config::Settings;

fuzz_target!(|text: &str| {
    let mut settings = Settings::defaults();
    if settings.apply_file("fuzz.toml", text).is_ok() {
        let _ = settings.finish();
    }
});
