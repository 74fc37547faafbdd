//! The files in which the AWS tools keep keys and settings, `~/.aws/credentials` and
//! `~/.aws/config`. Reads the properties of one profile; contacts no service.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::error::StoreError;

/// Properties by which a profile obtains its key from a service or a program.
const INDIRECT_SOURCES: [&str; 6] =
    ["role_arn", "sso_session", "sso_start_url", "credential_process", "credential_source", "login_session"];

/// The files to read, and the profile in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProfileLocation {
    /// Name of the profile.
    pub(super) name: String,
    /// Whether the profile was asked for by name, so that it must exist.
    pub(super) is_required: bool,
    /// The file that holds keys.
    pub(super) credentials_file: Option<PathBuf>,
    /// The file that holds other settings, and possibly keys.
    pub(super) config_file: Option<PathBuf>,
}

/// The properties of a profile; none if the profile does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AwsProfile(BTreeMap<String, String>);

impl ProfileLocation {
    /// The files and the profile for error texts.
    pub(super) fn describe(&self) -> String {
        let files = [&self.credentials_file, &self.config_file];
        let files: Vec<_> = files.into_iter().flatten().map(|file| file.display().to_string()).collect();
        match files.is_empty() {
            true => "there is no home directory with .aws/credentials".to_owned(),
            false => format!("profile {} in {} has no key", self.name, files.join(" and ")),
        }
    }

    /// Reads the profile. The file of keys takes precedence, as in the AWS tools.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if a file exists and cannot be read, or a required profile is
    /// missing.
    pub(super) fn read(&self) -> Result<AwsProfile, StoreError> {
        let of_config = match self.name.as_str() {
            "default" => vec!["default".to_owned(), "profile default".to_owned()],
            name => vec![format!("profile {name}")],
        };
        let config = read_sections(self.config_file.as_deref(), &of_config)?;
        let keys = read_sections(self.credentials_file.as_deref(), std::slice::from_ref(&self.name))?;
        if self.is_required && config.is_none() && keys.is_none() {
            let reason = format!("the profile does not exist: {}", self.describe());
            return Err(StoreError::Unusable { path: format!("AWS_PROFILE={}", self.name), reason });
        }
        let mut properties = config.unwrap_or_default();
        properties.extend(keys.unwrap_or_default());
        Ok(AwsProfile(properties))
    }
}

impl AwsProfile {
    /// A property that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The property by which the profile obtains its key elsewhere, if it does.
    pub(super) fn indirect_source(&self) -> Option<&'static str> {
        INDIRECT_SOURCES.into_iter().find(|name| self.0.contains_key(*name))
    }
}

/// The properties of these sections of a file; `None` if it has none of them.
fn read_sections(
    path: Option<&Path>,
    names: &[String],
) -> Result<Option<BTreeMap<String, String>>, StoreError> {
    let Some(path) = path else { return Ok(None) };
    match fs::read_to_string(path) {
        Ok(text) => Ok(parse_sections(&text, names)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(StoreError::from_io(&path.display().to_string(), &error)),
    }
}

fn parse_sections(text: &str, names: &[String]) -> Option<BTreeMap<String, String>> {
    let (mut found, mut is_inside) = (None, false);
    for line in text.lines() {
        // An indented line is part of the property above, which is a group of settings.
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            let header = header.split(']').next().unwrap_or_default();
            let header = header.split_whitespace().collect::<Vec<_>>().join(" ");
            is_inside = names.contains(&header);
            if is_inside {
                found.get_or_insert_with(BTreeMap::new);
            }
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_inside)
            && !value.trim().is_empty()
        {
            let properties = found.get_or_insert_with(BTreeMap::new);
            properties.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# keys\n[default]\naws_access_key_id = id\nAWS_SECRET_ACCESS_KEY=se=cret\n\n[ work ]\n\
                               aws_access_key_id = work-id\naws_session_token =\n";
    const CONFIG: &str = "[default]\nregion = eu-north-1\ns3 =\n  region = nested\naws_access_key_id = other\n\
                          [profile work]\nsso_session = x\n[work]\nregion = wrong\n";

    fn read(name: &str, is_required: bool) -> Result<AwsProfile, StoreError> {
        let folder = tempfile::tempdir().unwrap();
        let (credentials, config) = (folder.path().join("credentials"), folder.path().join("config"));
        fs::write(&credentials, CREDENTIALS).unwrap();
        fs::write(&config, CONFIG).unwrap();
        let name = name.to_owned();
        let files = (Some(credentials), Some(config));
        ProfileLocation { name, is_required, credentials_file: files.0, config_file: files.1 }.read()
    }

    #[test]
    fn a_profile_is_read_from_both_files_and_keys_from_the_file_of_keys() {
        let default = read("default", false).unwrap();
        assert_eq!(default.get("aws_access_key_id"), Some("id"));
        assert_eq!(default.get("aws_secret_access_key"), Some("se=cret"));
        assert_eq!((default.get("region"), default.indirect_source()), (Some("eu-north-1"), None));
        let work = read("work", true).unwrap();
        assert_eq!((work.get("aws_access_key_id"), work.get("aws_session_token")), (Some("work-id"), None));
        assert_eq!((work.get("region"), work.indirect_source()), (None, Some("sso_session")));
    }

    #[test]
    fn only_a_profile_that_was_asked_for_must_exist() {
        assert_eq!(read("none", false).unwrap(), AwsProfile::default());
        let error = read("none", true).unwrap_err().to_string();
        assert!(error.starts_with("AWS_PROFILE=none") && error.contains("does not exist"), "{error}");
        let nowhere = ProfileLocation {
            name: "default".to_owned(),
            is_required: false,
            credentials_file: Some("/nonexistent/credentials".into()),
            config_file: None,
        };
        assert_eq!(nowhere.read().unwrap(), AwsProfile::default());
    }
}
