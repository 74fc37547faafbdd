//! The identity of an agent process: an nkey that names the agent and signs what it returns.

use forge_contract::agent::Identity;

use crate::config::{ConfigError, IdentityArgs, read_text};

const OPTION: &str = "--identity";

/// Loads the identity from the configured file; without one, generates an identity that lasts as
/// long as the process.
///
/// # Errors
/// [`ConfigError`] when the file is unreadable or holds no seed, or the system has no source of
/// randomness.
pub fn load(args: &IdentityArgs) -> Result<Identity, ConfigError> {
    match args.identity.as_deref().filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => {
            let text = read_text(OPTION, path)?;
            let invalid = |error| ConfigError::new(OPTION, format!("{}: {error}", path.display()));
            Identity::from_seed(&text).map_err(invalid)
        }
        None => {
            let mut bytes = [0; 32];
            #[expect(
                clippy::disallowed_methods,
                reason = "a missing source is an error of the configuration"
            )]
            getrandom::fill(&mut bytes).map_err(|error| {
                ConfigError::new(OPTION, format!("the system has no source of randomness: {error}"))
            })?;
            Ok(Identity::from_random(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nkeys::{KeyPair, KeyPairType};

    use super::*;

    #[test]
    fn every_process_without_a_file_has_its_own_identity() {
        let (a, b) = (load(&IdentityArgs::default()).unwrap(), load(&IdentityArgs::default()).unwrap());
        assert_ne!(a.id(), b.id());
    }

    #[test]
    fn a_file_always_gives_the_same_identity_and_errors_do_not_reveal_its_seed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        let args = IdentityArgs { identity: Some(path.clone()) };
        assert!(load(&args).unwrap_err().to_string().starts_with("--identity: "));
        fs::write(&path, "SUnotaseed\n").unwrap();
        let error = load(&args).unwrap_err();
        assert!(error.message.contains("seed") && !error.message.contains("SUnotaseed"), "{error}");
        let key = KeyPair::new_from_raw(KeyPairType::User, [7; 32]).unwrap();
        fs::write(&path, format!("{}\n", key.seed().unwrap())).unwrap();
        assert_eq!(load(&args).unwrap().id().as_str(), key.public_key());
    }
}
