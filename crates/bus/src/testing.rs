//! Support for tests of services and of bus implementations. Not part of a product build: enable
//! the feature `testing` in dev-dependencies only.

pub mod conformance;
mod faulty;

pub use self::faulty::{BusFault, BusOperation, FaultyBus};
