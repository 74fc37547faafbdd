//! What the kernel's tests share. References come from other arithmetic than the kernel's: nothing
//! here calls the code that it is compared with.
#![allow(dead_code, reason = "every test file uses its own part")]

pub mod compound;
pub mod gauss;
pub mod precise;
pub mod runs;
pub mod synthetic;
pub mod table;
pub mod vectors;
