//! The exit codes of `forge`. They are documented API: a released code never changes its meaning.

/// An unexpected failure.
pub const ERROR: u8 = 1;
/// The command cannot be carried out as given.
pub const INVALID_INPUT: u8 = 2;
/// The job failed or was cancelled.
pub const JOB_FAILED: u8 = 3;
/// Results differ from the stored ones, or from each other.
pub const MISMATCH: u8 = 4;
/// An audit found nothing wrong, but did not do all that was asked.
pub const INCOMPLETE: u8 = 5;

/// One row of the exit code table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCodeEntry {
    /// Exit code of the process.
    pub code: u8,
    /// Short name.
    pub name: &'static str,
    /// When the process ends with this code.
    pub meaning: &'static str,
}

/// Every exit code of `forge`, in ascending order.
pub const EXIT_CODES: [ExitCodeEntry; 7] = [
    ExitCodeEntry { code: 0, name: "success", meaning: "the command completed" },
    ExitCodeEntry {
        code: ERROR,
        name: "error",
        meaning: "unexpected failure, such as an unreachable service",
    },
    ExitCodeEntry {
        code: INVALID_INPUT,
        name: "invalid input",
        meaning: "wrong usage, setting or envelope; nothing was executed",
    },
    ExitCodeEntry {
        code: JOB_FAILED,
        name: "job failed",
        meaning: "the job failed or was cancelled; its error.json states the reason",
    },
    ExitCodeEntry {
        code: MISMATCH,
        name: "mismatch",
        meaning: "results differ from the stored ones (run, replay, explain, years, artifacts get) or from each \
                  other (diff), or an audit has the verdict failed",
    },
    ExitCodeEntry {
        code: INCOMPLETE,
        name: "incomplete",
        meaning: "an audit found nothing wrong, but something that was asked for could not be done",
    },
    ExitCodeEntry {
        code: forge_service::shutdown::INTERRUPTED_EXIT_CODE as u8,
        name: "interrupted",
        meaning: "a service received a second SIGINT or SIGTERM while shutting down",
    },
];

/// The table as a section of `forge --help`.
pub fn help_section() -> String {
    let width = EXIT_CODES.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    let line = |entry: &ExitCodeEntry| {
        let ExitCodeEntry { code, name, meaning } = entry;
        format!("\n  {code:>3}  {name:width$}  {meaning}")
    };
    format!("Exit codes:{}", EXIT_CODES.iter().map(line).collect::<String>())
}
