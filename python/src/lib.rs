//! The native part of the Python package `forge_kernel`: jobs in this process, audits, the client
//! of the services, and tables for Arrow. It converts arguments and results; what they mean is in
//! `forge`.

mod arrow;
mod audit;
mod client;
mod errors;
mod run;
mod task;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::{
        arrow::arrow_stream,
        audit::audit,
        client::{NativeClient, NativeWatch},
        run::{RunOutput, run},
    };
}
