//! Errors of the library as the exceptions of `forge_kernel._errors`.

use forge::CommandError;
use forge_contract::error::InvalidDocument;
use pyo3::{exceptions::PyRuntimeError, prelude::*};

/// The module that defines the exceptions.
const MODULE: &str = "forge_kernel._errors";

/// An error of the library as an exception.
pub fn to_exception(py: Python<'_>, error: &CommandError) -> PyErr {
    match error {
        CommandError::InvalidEnvelope { errors, .. } => envelope_error(py, errors),
        CommandError::Job(failure) => {
            let arguments = (failure.code.to_string(), failure.message.clone());
            new_exception(py, "JobError", arguments)
        }
        CommandError::Mismatch(message) => new_exception(py, "MismatchError", (message.clone(),)),
        other => forge_error(py, &other.to_string()),
    }
}

/// `EnvelopeError` with a pointer and a message for each error.
pub fn envelope_error(py: Python<'_>, errors: &InvalidDocument) -> PyErr {
    let errors = errors.errors().iter();
    let pairs: Vec<_> = errors.map(|error| (error.pointer.clone(), error.message.clone())).collect();
    new_exception(py, "EnvelopeError", (pairs,))
}

/// `ForgeError` with a message.
pub fn forge_error(py: Python<'_>, message: &str) -> PyErr {
    new_exception(py, "ForgeError", (message.to_owned(),))
}

/// The exception of a class of [`MODULE`], or the exception that prevented it.
fn new_exception<'py>(py: Python<'py>, class: &str, arguments: impl pyo3::call::PyCallArgs<'py>) -> PyErr {
    let created = py.import(MODULE).and_then(|module| module.getattr(class)?.call1(arguments));
    created.map_or_else(|error| error, PyErr::from_value)
}

/// The work of a thread panicked, which is a bug.
pub fn panicked() -> PyErr {
    PyRuntimeError::new_err("forge_kernel: an internal error occurred; please report it as a bug")
}
