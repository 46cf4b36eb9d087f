//! `sluice-tune`.

fn main() {}
