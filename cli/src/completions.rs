//! `forge completions` and `forge man`: what shells and `man` know of the command line, generated
//! from it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

use crate::{error::CommandError, local_path::local_path, output};

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  forge completions bash > ~/.local/share/bash-completion/completions/forge
  forge completions zsh > ~/.zfunc/_forge         # with ~/.zfunc in fpath, before compinit
  forge completions fish > ~/.config/fish/completions/forge.fish
  forge completions powershell >> $PROFILE";

const MAN_EXAMPLES: &str = "\
Examples:
  forge man | man -l -
  forge man --dir ~/.local/share/man/man1 && man forge-run";

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Print the manual page of forge, or write those of all commands
#[derive(Debug, Args)]
#[command(after_help = MAN_EXAMPLES)]
pub struct ManArgs {
    /// Write the page of every command to this directory, which is created if missing
    #[arg(long, value_name = "DIR", value_parser = local_path())]
    dir: Option<PathBuf>,
}

/// Prints the completion script for `command`, the whole command line.
///
/// # Errors
/// Standard output cannot be written to.
pub fn print_completions(args: &CompletionsArgs, mut command: Command) -> Result<(), CommandError> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    output::print(&script)
}

/// Prints the manual page of `command`, the whole command line, or writes the pages of all its
/// commands.
///
/// # Errors
/// Standard output or a file cannot be written to.
pub fn write_manual(args: &ManArgs, command: Command) -> Result<(), CommandError> {
    // clap's own command `help` needs no page.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    match &args.dir {
        Some(directory) => {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
            Ok(write_pages(&command, directory)?)
        }
        None => output::print(&render_page(&command).1),
    }
}

/// Writes the page of a command and those of its commands.
fn write_pages(command: &Command, directory: &Path) -> anyhow::Result<()> {
    let (name, page) = render_page(command);
    let path = directory.join(name);
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    let mut commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    commands.try_for_each(|command| write_pages(command, directory))
}

/// File name and text of the page of a command.
fn render_page(command: &Command) -> (String, Vec<u8>) {
    let source = concat!("forge ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(source).manual("Forge Kernel");
    let mut page = Vec::new();
    let mut render = || {
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut page)?;
        }
        match command.get_after_help() {
            Some(help) => notes_section(&help.to_string()).to_writer(&mut page),
            None => Ok(()),
        }
    };
    render().expect("writing to memory never fails");
    (man.get_filename(), page)
}

/// The text after the options, line by line as it stands there: it has examples and tables.
fn notes_section(text: &str) -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["NOTES"]).control("nf", []);
    for line in text.lines() {
        section.text([roman(line)]);
    }
    section.control("fi", []);
    section
}
