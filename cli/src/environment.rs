//! The environment variables of options, brought into one form before clap reads them.

use std::env;

/// Prefixes of the variables that options and the exporter of traces read.
const PREFIXES: [&str; 2] = ["FORGE_", "OTEL_"];

/// Removes the white space around the values of these variables, which a Secret made from a file
/// has, and removes variables without a value, to which Compose and Helm set unused ones.
///
/// # Safety
/// No other thread may exist, since one could read the environment.
pub unsafe fn normalise() {
    for (name, value) in env::vars_os() {
        let is_ours =
            name.to_str().is_some_and(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
        let Some(text) = value.to_str().filter(|_| is_ours) else { continue };
        match text.trim() {
            // SAFETY: the caller warrants it.
            "" => unsafe { env::remove_var(&name) },
            trimmed if trimmed.len() < text.len() => unsafe { env::set_var(&name, trimmed) },
            _ => {}
        }
    }
}
