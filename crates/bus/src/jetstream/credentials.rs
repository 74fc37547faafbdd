//! Credentials of a NATS user, and the answer to a server's challenge that is made from them. Files
//! are read for every connection, since they may be renewed while the process runs.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use async_nats::Auth;
use nkeys::KeyPair;

use crate::error::BusError;

/// Credentials of a NATS user.
#[derive(Clone, Default)]
pub enum NatsCredentials {
    /// None beside those in the URL.
    #[default]
    None,
    /// A user name with a password.
    Password {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// A token.
    Token(String),
    /// The seed of a user nkey (`SU…`).
    Nkey(Secret),
    /// A credentials file: a user JWT and the seed of its nkey.
    File(PathBuf),
}

/// A secret, or the file that holds it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The secret itself.
    Text(String),
    /// A file with the secret, which white space may surround. It is read for every connection.
    File(PathBuf),
}

impl fmt::Debug for NatsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Password { user, password } => write!(f, "Password({user:?}, {password:?})"),
            Self::Token(_) => f.write_str("Token(…)"),
            Self::Nkey(seed) => write!(f, "Nkey({seed:?})"),
            Self::File(path) => write!(f, "File({path:?})"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("…"),
            Self::File(path) => path.fmt(f),
        }
    }
}

impl Secret {
    fn read(&self) -> Result<String, BusError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => {
                let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
                Ok(text.trim().to_owned())
            }
        }
    }
}

impl NatsCredentials {
    /// Makes the answer to a challenge from the current content of the files.
    ///
    /// # Errors
    /// [`BusError::Unusable`] if a file cannot be read or holds something else.
    pub(super) fn answer(&self, nonce: &[u8]) -> Result<Auth, BusError> {
        let mut auth = Auth::new();
        match self {
            Self::None => {}
            Self::Password { user, password } => {
                auth.username = Some(user.clone());
                auth.password = Some(password.read()?);
            }
            Self::Token(token) => auth.token = Some(token.clone()),
            Self::Nkey(seed) => {
                let key = parse_seed(&seed.read()?, "the nkey")?;
                auth.nkey = Some(key.public_key());
                auth.signature = Some(sign(&key, nonce)?);
            }
            Self::File(path) => {
                let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
                let (jwt, seed) = parse_credentials_file(&text).ok_or_else(|| {
                    let path = path.display();
                    BusError::Unusable(format!(
                        "{path} is not a credentials file: it lacks a user JWT or a seed"
                    ))
                })?;
                let key = parse_seed(seed, &path.display().to_string())?;
                auth.jwt = Some(jwt.to_owned());
                auth.signature = Some(sign(&key, nonce)?);
            }
        }
        Ok(auth)
    }
}

fn unreadable(path: &Path, error: &io::Error) -> BusError {
    BusError::Unusable(format!("reading the credentials file {} failed: {error}", path.display()))
}

fn parse_seed(seed: &str, holder: &str) -> Result<KeyPair, BusError> {
    KeyPair::from_seed(seed).map_err(|_| BusError::Unusable(format!("{holder} holds no valid seed (SU…)")))
}

fn sign(key: &KeyPair, nonce: &[u8]) -> Result<Vec<u8>, BusError> {
    key.sign(nonce)
        .map_err(|error| BusError::Unusable(format!("signing the server's challenge failed: {error}")))
}

/// The JWT and the seed of a credentials file: each is the line after a `-----BEGIN …-----`.
fn parse_credentials_file(text: &str) -> Option<(&str, &str)> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut next_value = || {
        lines.find(|line| line.starts_with("---") && line.contains("BEGIN"))?;
        lines.next().filter(|line| !line.starts_with("---"))
    };
    Some((next_value()?, next_value()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_again_for_every_connection() {
        let folder = tempfile::tempdir().unwrap();
        let (creds, password) = (folder.path().join("creds"), folder.path().join("password"));
        let (first, second) = (KeyPair::new_user(), KeyPair::new_user());
        let write = |jwt: &str, key: &KeyPair| {
            let text = format!(
                "-----BEGIN NATS USER JWT-----\r\n{jwt}\r\n------END NATS USER JWT------\r\n\n*** IMPORTANT ***\n\n\
                 -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
                key.seed().unwrap()
            );
            fs::write(&creds, text).unwrap();
        };
        let file = NatsCredentials::File(creds.clone());
        for (jwt, key) in [("a.b", &first), ("c.d", &second)] {
            write(jwt, key);
            let auth = file.answer(b"nonce").unwrap();
            assert_eq!(auth.jwt.as_deref(), Some(jwt));
            key.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        }
        let user =
            NatsCredentials::Password { user: "u".to_owned(), password: Secret::File(password.clone()) };
        for text in ["one\n", " two"] {
            fs::write(&password, text).unwrap();
            assert_eq!(user.answer(b"").unwrap().password.as_deref(), Some(text.trim()));
        }
        let nkey = NatsCredentials::Nkey(Secret::File(password.clone()));
        fs::write(&password, first.seed().unwrap() + "\n").unwrap();
        assert_eq!(nkey.answer(b"").unwrap().nkey, Some(first.public_key()));
    }

    #[test]
    fn files_that_hold_something_else_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let error = |credentials: NatsCredentials| credentials.answer(b"").err().unwrap().to_string();
        assert!(error(NatsCredentials::File(path.clone())).contains("reading the credentials file"));
        fs::write(&path, "hush").unwrap();
        for credentials in
            [NatsCredentials::File(path.clone()), NatsCredentials::Nkey(Secret::File(path.clone()))]
        {
            let error = error(credentials);
            assert!(!error.contains("hush"), "{error}");
        }
        fs::write(&path, "-----BEGIN NATS USER JWT-----\na.b\n---END---\n").unwrap();
        assert!(error(NatsCredentials::File(path)).contains("lacks a user JWT or a seed"));
    }
}
