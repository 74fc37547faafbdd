//! Helpers shared by the tests of the kernel. The references use different arithmetic from the
//! kernel: none of them calls the code under test.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod compound;
pub mod exact_table;
pub mod gauss;
pub mod portfolio;
pub mod precise;
pub mod runs;
pub mod synthetic;
pub mod table;
pub mod vectors;
