//! A check as text for people.

use crate::advice::Report;

/// The report as a table with its formulas below, no line longer than `width` columns.
pub fn render(_report: &Report, _width: usize) -> String {
    unimplemented!()
}
