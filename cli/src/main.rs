//! The `forge` command. All of it is in the library, which the Python package uses too.

use std::process::ExitCode;

fn main() -> ExitCode {
    // SAFETY: no thread has been started yet.
    unsafe { forge::main() }
}
