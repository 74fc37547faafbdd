//! Writing to standard output and standard error. Results go to standard output, everything else to
//! standard error. No other module of this crate writes to either.

use std::{
    env,
    io::{self, ErrorKind, IsTerminal, Write},
};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use crate::{error::CommandError, foreign_text};

/// Format of a command's standard output. The help of `--format` describes both, so the variants
/// have no doc comments, which clap would list as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Text,
    Json,
}

/// Format of a command whose output is a table. The help of `--format` describes all, as above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    Text,
    Json,
    Csv,
}

/// Writes to standard output. A reader that closes the pipe early is not an error.
///
/// # Errors
/// Writing failed for any reason other than a closed pipe.
pub fn print(bytes: &[u8]) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    check_written(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// A document as JSON over several lines: the form of commands that print one object.
///
/// # Panics
/// When the document has a map whose keys are no strings, which no document of a command has.
pub fn to_json_document(document: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(document).expect("documents of commands always serialise");
    format!("{text}\n")
}

/// Objects as JSON, each on a line of its own: the form of commands that print a list or a stream.
///
/// # Panics
/// See [`to_json_document`].
pub fn to_json_lines<T: Serialize>(objects: impl IntoIterator<Item = T>) -> String {
    let line = |object| serde_json::to_string(&object).expect("objects of commands always serialise") + "\n";
    objects.into_iter().map(line).collect()
}

/// Writes help or the version, which clap returns as an error, to standard output.
///
/// # Errors
/// As for [`print`].
pub fn print_help(help: &clap::Error) -> Result<(), CommandError> {
    check_written(help.print().and_then(|()| io::stdout().flush()))
}

fn check_written(result: io::Result<()>) -> Result<(), CommandError> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result.context("cannot write to standard output")?),
    }
}

/// Writes lines to standard error, with control characters written out: messages repeat text of
/// documents and services. Errors are ignored: there is no other channel to report them.
pub fn print_to_stderr(lines: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", foreign_text::escape_lines(lines));
}

/// Whether text is emphasised with ANSI escape sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextStyle {
    /// No escape sequences.
    Plain,
    /// Headings in bold, warnings in yellow, alarms in bold red.
    Colour,
}

impl TextStyle {
    /// Colour if standard output is a terminal, unless `NO_COLOR` (<https://no-color.org>) is set
    /// or `TERM` is `dumb`.
    pub fn of_stdout() -> Self {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        if io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb { Self::Colour } else { Self::Plain }
    }

    /// Bold text.
    pub fn heading(self, text: &str) -> String {
        self.escape("1", text)
    }

    /// Yellow text.
    pub fn warning(self, text: &str) -> String {
        self.escape("33", text)
    }

    /// Bold red text.
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

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    /// Commands without data of their own: they change contexts, write files, run services, or
    /// print what another program reads, or JSON in any case.
    const WITHOUT_FORMAT: [&str; 16] = [
        "add",
        "aggregator",
        "completions",
        "console",
        "execute-shard",
        "help",
        "man",
        "new",
        "planner",
        "remove",
        "report",
        "schema",
        "up",
        "use",
        "verifier",
        "worker",
    ];

    fn commands<'a>(command: &'a Command, found: &mut Vec<&'a Command>) {
        match command.has_subcommands() {
            true => command.get_subcommands().for_each(|inner| commands(inner, found)),
            false => found.push(command),
        }
    }

    #[test]
    fn every_command_that_prints_data_can_print_json() {
        let (line, mut found) = (crate::Cli::command(), Vec::new());
        commands(&line, &mut found);
        for command in found {
            let name = command.get_name();
            let option = command.get_arguments().find(|argument| argument.get_id() == "format");
            let values = option.map(|option| option.get_possible_values()).unwrap_or_default();
            let has_json = values.iter().any(|value| value.get_name() == "json");
            assert_ne!(has_json, WITHOUT_FORMAT.contains(&name), "{name}");
        }
    }
}
