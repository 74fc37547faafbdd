//! Which context a command uses, and what of it: its settings become variables, which options
//! precede.

use std::env;

use clap::{ArgMatches, Args, parser::ValueSource};

use super::{
    file::ContextFile,
    settings::{ContextName, STORE_VARIABLE, SUBMITTER_VARIABLE},
};
use crate::{error::CommandError, output};

/// Id of the option.
const CONTEXT: &str = "context";
/// Beginning of the ids of the options of the connection to NATS. They belong together, as a
/// credential is for one deployment alone.
const NATS_PREFIX: &str = "nats_";

/// The context of a client command.
#[derive(Debug, Clone, Args)]
pub struct ContextArgs {
    /// Context that names the deployment; see `forge context` [default: the one in use]
    #[arg(long, env = "FORGE_CONTEXT", value_name = "NAME")]
    pub context: Option<ContextName>,
}

/// Sets the variables of the context that the command uses, as far as neither options nor variables
/// give these settings. Returns whether any was set, so that the command line has to be read again.
///
/// # Safety
/// No other thread may exist, since one could read the environment.
///
/// # Errors
/// [`CommandError::Input`] if there is no such context, or the file of contexts cannot be read.
pub unsafe fn apply_context(matches: &ArgMatches) -> Result<bool, CommandError> {
    let Some(command) = client_command(matches) else { return Ok(false) };
    let file = ContextFile::read()?;
    let named = command.get_one::<ContextName>(CONTEXT);
    let Some(name) = named.or(file.current.as_ref()) else { return Ok(false) };
    let settings = file.context(name)?;
    let given_nats =
        command.ids().find(|id| id.as_str().starts_with(NATS_PREFIX) && is_given(command, id.as_str()));
    if let (Some(id), Some(ValueSource::CommandLine)) = (given_nats, command.value_source(CONTEXT)) {
        let option = id.as_str().replace('_', "-");
        output::print_to_stderr(&format!(
            "warning: nothing of --context {name} but its store is used: --{option} or its variable is given"
        ));
    }
    let mut is_any_set = false;
    for (variable, value) in settings.variables() {
        let is_free = match variable {
            STORE_VARIABLE => !is_given(command, "store"),
            SUBMITTER_VARIABLE => given_nats.is_none() && !is_given(command, "submitter"),
            _ => given_nats.is_none(),
        };
        if is_free {
            // SAFETY: the caller warrants it.
            unsafe { env::set_var(variable, value) };
            is_any_set = true;
        }
    }
    Ok(is_any_set)
}

/// The innermost subcommand, if it has the option.
fn client_command(matches: &ArgMatches) -> Option<&ArgMatches> {
    let mut command = matches;
    while let Some((_, inner)) = command.subcommand() {
        command = inner;
    }
    command.try_contains_id(CONTEXT).is_ok().then_some(command)
}

/// Whether an option is on the command line, or its variable is set.
fn is_given(command: &ArgMatches, id: &str) -> bool {
    command.try_contains_id(id).is_ok()
        && matches!(command.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}
