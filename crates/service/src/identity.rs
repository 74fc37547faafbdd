//! The identity of a process.

use forge_contract::agent::Identity;

use crate::config::{ConfigError, IdentityArgs, read};

const FIELD: &str = "--identity";

/// The identity that the settings name, or a new one that ends with the process.
///
/// # Errors
/// [`ConfigError`] when the file cannot be read or holds no seed, or the system gives no random numbers.
pub fn load(args: &IdentityArgs) -> Result<Identity, ConfigError> {
    match args.identity.as_deref().filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => {
            let text = read(FIELD, path)?;
            let wrong = |error| ConfigError::new(FIELD, format!("{}: {error}", path.display()));
            Identity::from_seed(&text).map_err(wrong)
        }
        None => {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes)
                .map_err(|error| ConfigError::new(FIELD, format!("no random numbers: {error}")))?;
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
    fn without_a_file_every_process_is_another() {
        let (a, b) = (load(&IdentityArgs::default()).unwrap(), load(&IdentityArgs::default()).unwrap());
        assert_ne!(a.id(), b.id());
    }

    #[test]
    fn a_file_names_the_same_agent_every_time() {
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
