//! Options that several services share, and `--print-config`.

use clap::{ArgMatches, Args, Command, parser::ValueSource};
use forge_service::{ConfigError, config};

use crate::{error::CommandError, output};

/// The option `--print-config`. It is handled before a service validates its settings, so that it
/// also shows settings that the service would reject.
#[derive(Debug, Clone, Copy, Args)]
pub struct PrintConfigArgs {
    /// Print the effective settings and where each comes from, with secrets hidden, and exit
    #[arg(long, help_heading = None)]
    pub print_config: bool,
}

/// Prints the effective settings of a service if its command line has `--print-config`. Returns
/// whether it did.
///
/// # Errors
/// Writing to standard output failed.
pub fn print_config(command: &Command, matches: &ArgMatches) -> Result<bool, CommandError> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(false) };
    if !matches.try_get_one::<bool>("print_config").ok().flatten().copied().unwrap_or(false) {
        return Ok(false);
    }
    let Some(command) = command.find_subcommand(name) else { return Ok(false) };
    output::print(config::render_text(&config::effective_settings(command, matches)).as_bytes())?;
    Ok(true)
}

/// Whether an option of the subcommand has its default value, from neither the command line nor the
/// environment.
pub fn is_default(matches: &ArgMatches, id: &str) -> bool {
    let source = matches.subcommand().and_then(|(_, matches)| matches.value_source(id));
    source.is_none_or(|source| source == ValueSource::DefaultValue)
}

/// The memory for jobs.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Jobs")]
pub struct JobMemoryArgs {
    /// Memory of each aggregator for the jobs that it reduces, in MiB: some 8 kB per shard, and 4
    /// to 11 MiB per job. Further jobs wait; one that needs more alone is refused. Planners need
    /// the same value
    #[arg(long, env = "FORGE_JOB_MEMORY_MIB", value_name = "MIB", default_value_t = 1024)]
    job_memory_mib: u64,
}

impl JobMemoryArgs {
    /// The memory in bytes.
    pub fn bytes(self) -> u64 {
        self.job_memory_mib.saturating_mul(1 << 20)
    }
}

/// The buckets of job records.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Jobs")]
pub struct NamespaceArgs {
    /// Key-value buckets for job records that envelopes may name, separated by commas; the first is
    /// the default
    #[arg(
        long,
        env = "FORGE_KV_NAMESPACES",
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "jobs"
    )]
    pub kv_namespaces: Vec<String>,
}

impl NamespaceArgs {
    /// The validated names.
    ///
    /// # Errors
    /// [`ConfigError`] if there is no name, or one is not a valid bucket name. The prefix `forge_`
    /// is reserved for the services' own buckets.
    pub fn names(&self) -> Result<Vec<String>, ConfigError> {
        let is_valid = |name: &String| {
            (1..=64).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
                && !name.starts_with("forge_")
        };
        match self.kv_namespaces.iter().find(|name| !is_valid(name)) {
            None if !self.kv_namespaces.is_empty() => Ok(self.kv_namespaces.clone()),
            invalid => Err(ConfigError::new(
                "--kv-namespaces",
                format!(
                    "invalid name {:?}: a name has 1 to 64 characters of A-Z, a-z, 0-9, _ and -, and does not start \
                     with forge_",
                    invalid.map_or("", String::as_str)
                ),
            )),
        }
    }
}
