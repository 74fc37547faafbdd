//! Checks the shape of the workspace against ARCHITECTURE.md: which crate may use which, that the
//! modules of a crate form no import cycle, and that no two types share a name. Reads source text
//! and `cargo metadata`; links none of the crates that it checks.

mod crates;
mod modules;
mod names;
mod source;
