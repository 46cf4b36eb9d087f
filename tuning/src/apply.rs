//! Makes changes in order and stops at the first refusal, after which all is as it was.
//!
//! Signatures that the server relies on:
//! `apply(host: &Host, changes: &[Change], options: &Options) -> Result<Applied, ApplyError>` and
//! `preview(host, changes, options) -> Vec<Step>`, which says in order what apply would do, without doing it.
