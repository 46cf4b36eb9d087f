//! Looks at the host that carries media, says what should be different and why, changes it and puts it back.
//!
//! [`host`] is the only door to the outside: files below a root folder, and `ethtool`. What is read there becomes plain
//! [`facts`]. An expected [`load`] becomes a [`demand`] by formulas that can be shown. [`rules`], one subject a file, hold the
//! two against each other and give [`finding`]s; a finding that something can be done about carries its [`change`]s. [`apply`]
//! makes them in order ([`value`]s are read, written and compared), stops at the first [`refusal`], saves what was there before
//! ([`state`]) and writes files that outlive a reboot ([`persist`]); [`restore`] puts all of it back. [`topology`] chooses the cores
//! of the shards. All but `host` and what makes and undoes changes is functions of data.

pub mod advice;
pub mod amount;
pub mod apply;
pub mod change;
pub mod cpu_set;
pub mod demand;
pub mod explain;
pub mod facts;
pub mod finding;
pub mod host;
pub mod load;
pub mod persist;
pub mod refusal;
pub mod restore;
pub mod rules;
pub mod setting;
pub mod state;
pub mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod topology;
mod trust;
pub mod value;
pub mod wrap;
