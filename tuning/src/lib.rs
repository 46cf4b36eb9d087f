//! Looks at the host that carries media. Reads facts; changes nothing.

pub mod facts;
