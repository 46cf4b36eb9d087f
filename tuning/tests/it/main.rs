//! Changes are made and put back: on hosts made of files, in a network namespace of the real one, and by the program itself.

mod apply;
mod cli;
mod crashes;
mod persist;
mod real_host;
mod refusals;
mod restore;
mod support;
