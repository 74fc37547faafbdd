//! Reads [`S3Options`] from the variables and files that the AWS tools use. White space around a
//! value is removed, and an empty value counts as absent.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use object_store::aws::AmazonS3ConfigKey;

use super::{
    options::{AmbientCredentials, S3Credentials, S3Options},
    profile::{AwsProfile, ProfileLocation},
};
use crate::error::StoreError;

/// Environment variables that describe ambient credentials.
const AMBIENT_CREDENTIAL_VARIABLES: [(&str, AmazonS3ConfigKey); 7] = [
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
];
/// Where this process runs tells which credentials it has: one of these variables is then set.
const AMBIENT_SOURCE_VARIABLES: [&str; 3] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

impl S3Options {
    /// Reads `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, `AWS_REGION` or `AWS_DEFAULT_REGION`,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_CA_BUNDLE`, and the
    /// variables that describe ambient credentials. What they do not set is read from the profile
    /// `AWS_PROFILE`, or `default`, in `~/.aws/credentials` and `~/.aws/config`.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when a variable is not UTF-8, only one half of an access key is
    /// set, or the profile does not exist or has no key of its own.
    pub fn from_env() -> Result<Self, StoreError> {
        Self::from_variables(|name| env::var_os(name))
    }

    /// Like [`S3Options::from_env`], but looks variables up with `variable`.
    ///
    /// # Errors
    /// See [`S3Options::from_env`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, StoreError> {
        let variables = Variables(variable);
        let location = variables.profile_location()?;
        let own_key = variables.access_key()?;
        let profile = match (&own_key, variables.ambient_source()?) {
            // A profile that is not needed for its key need not exist.
            (Some(_), _) | (_, Some(_)) => location.read().unwrap_or_default(),
            (None, None) => location.read()?,
        };
        let (credentials, credentials_profile) = match own_key {
            Some(key) => (Some(key), None),
            None => {
                let key = profile_key(&profile, &location)?;
                let name = key.is_some().then(|| location.name.clone());
                (key, name)
            }
        };
        let mut ambient = Vec::new();
        for (name, key) in AMBIENT_CREDENTIAL_VARIABLES {
            ambient.extend(variables.text(name)?.map(|value| (key, value)));
        }
        let of_profile = |name: &str| profile.get(name).map(str::to_owned);
        let endpoint = variables
            .first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])?
            .or_else(|| of_profile("endpoint_url"));
        let proxy_variable = variables.proxy_variable(endpoint.as_deref());
        Ok(Self {
            endpoint,
            proxy_variable,
            region: variables.first(&["AWS_REGION", "AWS_DEFAULT_REGION"])?.or_else(|| of_profile("region")),
            credentials,
            credentials_profile,
            ca_bundle: variables.path("AWS_CA_BUNDLE"),
            ambient_credentials: AmbientCredentials {
                settings: ambient,
                source: variables.ambient_source()?,
                skips_metadata_service: variables
                    .text("AWS_EC2_METADATA_DISABLED")?
                    .is_some_and(|value| value.eq_ignore_ascii_case("true")),
                searched_files: location.describe(),
            },
            ..Self::default()
        })
    }
}

/// The key in a profile.
fn profile_key(
    profile: &AwsProfile,
    location: &ProfileLocation,
) -> Result<Option<S3Credentials>, StoreError> {
    let unusable =
        |reason: String| StoreError::Unusable { path: format!("the AWS profile {}", location.name), reason };
    match (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Ok(Some(S3Credentials {
            access_key_id: id.to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: profile.get("aws_session_token").map(str::to_owned),
        })),
        (Some(_), None) => Err(unusable("it has a key without aws_secret_access_key".to_owned())),
        (None, Some(_)) => Err(unusable("it has a key without aws_access_key_id".to_owned())),
        (None, None) => match profile.indirect_source() {
            Some(source) if location.is_required => Err(unusable(format!(
                "it obtains its key through {source}, which is not supported: set AWS_ACCESS_KEY_ID, \
                 AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, as `aws configure export-credentials --format env` \
                 prints them"
            ))),
            _ => Ok(None),
        },
    }
}

/// Variables, looked up by a function.
struct Variables<F>(F);

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    fn text(&self, name: &str) -> Result<Option<String>, StoreError> {
        let Some(value) = self.0(name) else { return Ok(None) };
        match value.into_string() {
            Ok(value) => Ok(Some(value.trim().to_owned()).filter(|value| !value.is_empty())),
            Err(_) => {
                let reason = "its value is not valid UTF-8".to_owned();
                Err(StoreError::Unusable { path: name.to_owned(), reason })
            }
        }
    }

    fn first(&self, names: &[&str]) -> Result<Option<String>, StoreError> {
        for name in names {
            if let Some(value) = self.text(name)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.0(name)?;
        let path = value.to_str().map_or_else(|| PathBuf::from(&value), |text| PathBuf::from(text.trim()));
        Some(path).filter(|path| !path.as_os_str().is_empty())
    }

    /// The first variable that names a proxy for an endpoint; AWS if absent.
    fn proxy_variable(&self, endpoint: Option<&str>) -> Option<&'static str> {
        let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let [upper, lower] =
            if is_plain { ["HTTP_PROXY", "http_proxy"] } else { ["HTTPS_PROXY", "https_proxy"] };
        let names = [upper, lower, "ALL_PROXY", "all_proxy"];
        names.into_iter().find(|name| self.0(name).is_some_and(|value| !value.is_empty()))
    }

    fn ambient_source(&self) -> Result<Option<&'static str>, StoreError> {
        for name in AMBIENT_SOURCE_VARIABLES {
            if self.text(name)?.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    fn access_key(&self) -> Result<Option<S3Credentials>, StoreError> {
        let incomplete = |path: &str, reason: &str| {
            Err(StoreError::Unusable { path: path.to_owned(), reason: reason.to_owned() })
        };
        match (self.text("AWS_ACCESS_KEY_ID")?, self.text("AWS_SECRET_ACCESS_KEY")?) {
            (Some(access_key_id), Some(secret_access_key)) => {
                let session_token = self.text("AWS_SESSION_TOKEN")?;
                Ok(Some(S3Credentials { access_key_id, secret_access_key, session_token }))
            }
            (None, None) => Ok(None),
            (Some(_), None) => incomplete("the key in AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY is not set"),
            (None, Some(_)) => incomplete("the key in AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID is not set"),
        }
    }

    fn profile_location(&self) -> Result<ProfileLocation, StoreError> {
        let named = self.first(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])?;
        let directory = self.path("HOME").or_else(|| self.path("USERPROFILE"));
        let default = |name: &str| directory.as_ref().map(|home| home.join(Path::new(".aws").join(name)));
        Ok(ProfileLocation {
            is_required: named.is_some(),
            name: named.unwrap_or_else(|| "default".to_owned()),
            credentials_file: self.path("AWS_SHARED_CREDENTIALS_FILE").or_else(|| default("credentials")),
            config_file: self.path("AWS_CONFIG_FILE").or_else(|| default("config")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn options(variables: &[(&str, &str)]) -> Result<S3Options, StoreError> {
        S3Options::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(*value))
        })
    }

    #[test]
    fn the_more_specific_variable_wins_and_secrets_are_hidden() {
        let options = options(&[
            ("AWS_ENDPOINT_URL", "http://general"),
            ("AWS_ENDPOINT_URL_S3", "http://special/"),
            ("AWS_REGION", ""),
            ("AWS_DEFAULT_REGION", "eu-north-1"),
            ("AWS_ACCESS_KEY_ID", "an-id"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_SESSION_TOKEN", "a-token"),
            ("AWS_ROLE_ARN", "arn:x"),
        ])
        .unwrap();
        assert_eq!(options.checked_endpoint().unwrap(), Some("http://special"));
        assert_eq!(options.region(), "eu-north-1");
        assert_eq!(options.credentials.as_ref().unwrap().secret_access_key, "hunter2");
        let settings = [(AmazonS3ConfigKey::RoleArn, "arn:x".to_owned())];
        assert_eq!(options.ambient_credentials.settings, settings);
        let display_name = format!("{options:?}");
        assert!(
            ["an-id", "hunter2", "a-token"].iter().all(|secret| !display_name.contains(secret)),
            "{display_name}"
        );
    }

    #[test]
    fn white_space_around_every_value_is_removed_and_an_empty_value_is_absent() {
        let names = [
            "AWS_ENDPOINT_URL",
            "AWS_REGION",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_CA_BUNDLE",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_EC2_METADATA_DISABLED",
        ];
        let all = |value: &'static str| options(&names.map(|name| (name, value))).unwrap();
        let (padded, plain) = (all(" \tx\r\n"), all("x"));
        assert_eq!(format!("{padded:?}"), format!("{plain:?}"));
        assert_eq!(padded.credentials, plain.credentials);
        for empty in ["", " \n"] {
            assert_eq!(format!("{:?}", all(empty)), format!("{:?}", options(&[]).unwrap()));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_utf_8_is_refused_by_name() {
        use std::os::unix::ffi::OsStringExt;

        for wrong in ["AWS_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ROLE_ARN"] {
            let find = |name: &str| (name == wrong).then(|| OsString::from_vec(vec![b'a', 0xff]));
            let error = S3Options::from_variables(find).unwrap_err().to_string();
            assert!(error.starts_with(wrong) && error.contains("UTF-8"), "{error}");
        }
    }

    #[test]
    fn the_variable_that_names_a_proxy_depends_on_the_scheme() {
        let found = |variables: &[(&str, &str)]| options(variables).unwrap().proxy_variable;
        assert_eq!(found(&[("HTTP_PROXY", "http://p"), ("https_proxy", "")]), None);
        assert_eq!(found(&[("https_proxy", "http://p"), ("HTTP_PROXY", "http://p")]), Some("https_proxy"));
        let plain = ("AWS_ENDPOINT_URL", "http://h");
        assert_eq!(found(&[plain, ("HTTPS_PROXY", "http://p")]), None);
        assert_eq!(found(&[plain, ("http_proxy", "http://p")]), Some("http_proxy"));
        assert_eq!(found(&[plain, ("ALL_PROXY", "http://p")]), Some("ALL_PROXY"));
    }

    #[test]
    fn an_incomplete_key_is_reported() {
        let error = options(&[("AWS_ACCESS_KEY_ID", "an-id")]).unwrap_err().to_string();
        assert!(error.contains("AWS_SECRET_ACCESS_KEY is not set") && !error.contains("an-id"), "{error}");
    }

    #[test]
    fn the_profile_supplies_what_no_variable_sets() {
        let home = tempfile::tempdir().unwrap();
        let aws = home.path().join(".aws");
        fs::create_dir(&aws).unwrap();
        fs::write(
            aws.join("credentials"),
            "[default]\naws_access_key_id=d\naws_secret_access_key=s\n[half]\naws_access_key_id=h\n",
        )
        .unwrap();
        fs::write(
            aws.join("config"),
            "[default]\nregion=eu-west-3\nendpoint_url=http://h:1\n[profile sso]\nsso_session=x\n",
        )
        .unwrap();
        let with = |more: &[(&str, &str)]| {
            let home = [("HOME", home.path().to_str().unwrap())];
            options(&[more, &home].concat())
        };
        let default = with(&[]).unwrap();
        assert_eq!(default.credentials.as_ref().unwrap().access_key_id, "d");
        assert_eq!((default.region(), default.endpoint.as_deref()), ("eu-west-3", Some("http://h:1")));
        let own = [("AWS_ACCESS_KEY_ID", "own"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", "r")];
        let own = with(&own).unwrap();
        assert_eq!((own.credentials.as_ref().unwrap().access_key_id.as_str(), own.region()), ("own", "r"));
        for (profile, reason) in [("none", "does not exist"), ("half", "without"), ("sso", "sso_session")] {
            let error = with(&[("AWS_PROFILE", profile)]).unwrap_err().to_string();
            assert!(error.contains(profile) && error.contains(reason), "{error}");
        }
    }
}
