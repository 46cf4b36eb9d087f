//! What was there before: saved ahead of each change, read by `restore`.
