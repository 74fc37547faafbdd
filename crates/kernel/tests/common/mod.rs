//! Shared by the tests of the kernel. References use other arithmetic than the kernel: nothing here
//! calls the code that it is compared with.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod compound;
pub mod gauss;
pub mod precise;
pub mod runs;
pub mod synthetic;
pub mod table;
pub mod vectors;
