//! Finds what is known of a setting by its key.

use crate::setting::Setting;

/// Every setting, in the order of a check.
pub fn settings() -> Vec<&'static Setting> {
    unimplemented!()
}

/// The settings that `key` names: one, or all below a prefix (`nic`).
///
/// # Errors
/// There is none; the sentence names those that come near.
pub fn find(_key: &str) -> Result<Vec<&'static Setting>, String> {
    unimplemented!()
}
