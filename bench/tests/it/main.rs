//! The program from outside: the real `sluice-bench` against a real `sluice`, both as processes on loopback.
//!
//! What is checked is what a run says, counts against counts, and never how long anything took: this machine may have other things to do.

mod apis;
mod comparisons;
mod conditions;
mod endings;
mod expectations;
mod refusals;
mod reports;
mod support;
mod workers;
