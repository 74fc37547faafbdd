//! Everything that is written to standard output and standard error. Results go to the one, all else to the other.

use std::{
    env,
    io::{self, ErrorKind, IsTerminal, Write},
};

use anyhow::Context;

use crate::failure::Failure;

/// Writes to standard output. A reader that has seen enough and closed the pipe is no failure.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("standard output cannot be written")?),
    }
}

/// Writes a line to standard error; where that fails nobody is left to be told.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Whether text is emphasised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Plain text.
    Plain,
    /// Headings are bold, warnings yellow.
    Colour,
}

impl Style {
    /// Colour on a terminal, unless `NO_COLOR` (<https://no-color.org>) is set or the terminal is dumb.
    pub fn of_stdout() -> Self {
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        if io::stdout().is_terminal() && !set("NO_COLOR") && !dumb { Self::Colour } else { Self::Plain }
    }

    /// A heading.
    pub fn heading(self, text: &str) -> String {
        self.escape("1", text)
    }

    /// A warning.
    pub fn warning(self, text: &str) -> String {
        self.escape("33", text)
    }

    /// Something that is wrong.
    pub fn alarm(self, text: &str) -> String {
        self.escape("1;31", text)
    }

    fn escape(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}
