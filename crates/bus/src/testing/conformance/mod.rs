//! The conformance suite of bus implementations: functions over [`Bus`](crate::Bus) that panic
//! where a guarantee is broken.
//!
//! Each function obtains its buses from `make_bus`, which returns an empty, prepared bus whose
//! topology has the [`settings`] of this suite.

mod buckets;
mod core_messaging;
mod fixture;
mod limits;
mod queues;
mod replay;

pub use self::{
    buckets::check_buckets,
    core_messaging::check_core_messaging,
    fixture::{LEASE, settings},
    limits::check_limits,
    queues::check_queues,
    replay::check_replay,
};
