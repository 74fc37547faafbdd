//! Executing a job in this process: threads take shards in order, and their results are merged in order. Services over
//! an in-process bus will take this module's place.
//!
//! Reading order: [`stop`] → [`crew`] → [`fold`] → [`run`] → [`verify`].

mod clock;
pub mod crew;
pub mod fold;
pub mod run;
pub mod stop;
pub mod verify;
