//! Results for people: Markdown, and HTML that needs nothing but itself.
//!
//! [`group`] puts runs of the same load together; [`document`] says once what a report holds, with tables of [`measures`] and of what was [`published`];
//! [`mod@markdown`] and [`mod@html`] write it down, the latter with [`plots`] drawn by [`svg`]. [`progress`] is what is seen while a run goes on.

mod document;
mod group;
mod html;
mod markdown;
mod measures;
mod plots;
pub mod progress;
mod published;
#[cfg(test)]
mod sample;
mod svg;

pub use html::html;
pub use markdown::markdown;
