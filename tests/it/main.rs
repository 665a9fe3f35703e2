//! What the guard does, seen from outside the library; one binary, so that it is linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]
#![recursion_limit = "256"]

mod sound;

mod alerts;
mod cases;
#[cfg(feature = "cli")]
mod command;
mod docs;
mod flow;
mod fuzz;
mod layout;
mod members;
#[cfg(feature = "cli")]
mod replay;
#[cfg(feature = "watch")]
mod sweep;
mod verdicts;
