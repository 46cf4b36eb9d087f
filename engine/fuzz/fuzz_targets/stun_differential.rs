#![no_main]

#[path = "../../tests/wire/stun_oracle.rs"]
mod stun_oracle;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    stun_oracle::compare(&sluice_engine::testing::fuzz::stun_message(data));
});
