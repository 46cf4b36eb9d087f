//! Puts back what was there before the first `apply`.
//!
//! `restore(host: &Host, force: bool) -> Result<Restored, RestoreError>`
