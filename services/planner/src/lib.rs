//! The planner: takes submitted envelopes, validates and plans them, and hands out their shards in a bounded window that is
//! topped up as results come. It ends no job itself: what a job fails of is told to an aggregator.
//!
//! Reading order: [`planner`] → [`admit`] → [`charge`], [`quota`] → [`drive`] → [`absence`], [`dispatch`] → [`api`].

mod absence;
pub mod admit;
mod api;
mod charge;
mod dead_letters;
pub mod dispatch;
mod drive;
pub mod planner;
pub mod quota;

pub use self::planner::{Planner, PlannerSettings, run};
