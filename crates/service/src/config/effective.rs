//! The effective configuration: every option of a command with its value and origin. Derived from
//! clap's own tables, so that no option can be forgotten.

use std::ffi::OsStr;

use clap::{ArgMatches, Command, parser::ValueSource};

/// An option with its effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The option without its dashes, such as `nats-url`.
    pub name: String,
    /// The environment variable that can set it.
    pub variable: Option<String>,
    /// The value; `***` if it is secret, `None` if it is unset or empty. Several values are joined
    /// by commas.
    pub value: Option<String>,
    /// Source of the value.
    pub origin: SettingOrigin,
}

/// Source of a setting's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingOrigin {
    /// The command line.
    Flag,
    /// The environment variable.
    Environment,
    /// Neither set it.
    Default,
}

impl SettingOrigin {
    /// `flag`, `environment` or `default`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::Default => "default",
        }
    }
}

/// Returns the effective settings of a command, in the order of its help. Options with clap's
/// `hide_env_values` are secret; of a URL, only the user information is.
pub fn effective_settings(command: &Command, matches: &ArgMatches) -> Vec<EffectiveSetting> {
    let options = command.get_arguments().filter(|arg| arg.get_long().is_some());
    let known = options.filter(|arg| matches.try_contains_id(arg.get_id().as_str()).is_ok());
    known
        .map(|arg| {
            let id = arg.get_id().as_str();
            let origin = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => SettingOrigin::Flag,
                Some(ValueSource::EnvVariable) => SettingOrigin::Environment,
                _ => SettingOrigin::Default,
            };
            let is_url = arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == "URL"));
            let show = |value: &OsStr| match value.to_string_lossy() {
                value if is_url => mask_credentials(&value),
                value if arg.is_hide_env_values_set() && !value.is_empty() => "***".to_owned(),
                value => value.into_owned(),
            };
            let values = matches.get_raw(id).map(|values| values.map(show).collect::<Vec<_>>().join(","));
            let value = values.filter(|value| !value.is_empty());
            EffectiveSetting {
                name: arg.get_long().unwrap_or(id).to_owned(),
                variable: arg.get_env().map(|name| name.to_string_lossy().into_owned()),
                value,
                origin,
            }
        })
        .collect()
}

/// Replaces what is before the `@` of a URL by `***`, also if it is not a well-formed URL.
fn mask_credentials(value: &str) -> String {
    match value.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
            format!("{scheme}***@{host}")
        }
        None => value.to_owned(),
    }
}

/// Renders one line per setting: `name = value  (from flag|environment|default)`, with `-` for an
/// unset value.
pub fn render_text(settings: &[EffectiveSetting]) -> String {
    let names = settings.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
    let line = |setting: &EffectiveSetting| {
        let value = setting.value.as_deref().unwrap_or("-");
        let origin = match (setting.origin, &setting.variable) {
            (SettingOrigin::Environment, Some(variable)) => format!("environment {variable}"),
            (origin, _) => origin.as_str().to_owned(),
        };
        format!("{:names$} = {value}  (from {origin})\n", setting.name)
    };
    settings.iter().map(line).collect()
}
