//! URLs of NATS servers as users write them: their scheme, and the credentials in them. Errors
//! never repeat a user, a password or a token.

use async_nats::ServerAddr;
use percent_encoding::percent_decode_str;

use super::credentials::{NatsCredentials, Secret};
use crate::error::BusError;

/// Splits URLs into addresses without user information, and the credentials that it holds. The
/// client authenticates alike at every server of a cluster, so URLs may not hold different ones.
///
/// # Errors
/// [`BusError::Unusable`] if a URL cannot be parsed, has a scheme that is not supported, or its
/// user information differs from that of another.
pub(super) fn split_credentials(urls: &[String]) -> Result<(Vec<String>, NatsCredentials), BusError> {
    let mut credentials: Option<UserInfo> = None;
    for url in urls {
        let Some(found) = parse(url)? else { continue };
        if credentials.as_ref().is_some_and(|earlier| *earlier != found) {
            return Err(BusError::Unusable("the URLs of the NATS servers hold different users".to_owned()));
        }
        credentials = Some(found);
    }
    let addresses = urls.iter().map(|url| without_user_info(url)).collect();
    Ok((addresses, credentials.map_or(NatsCredentials::None, UserInfo::into_credentials)))
}

/// A URL without user and password, for connections, error texts and logs.
pub(super) fn without_user_info(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

/// The part of a URL before `@`.
#[derive(PartialEq, Eq)]
struct UserInfo {
    user: String,
    password: Option<String>,
}

impl UserInfo {
    /// As in all clients of NATS, a name without a password is a token.
    fn into_credentials(self) -> NatsCredentials {
        match self {
            Self { user, password: Some(password) } => {
                NatsCredentials::Password { user, password: Secret::Text(password) }
            }
            Self { user: token, password: None } => NatsCredentials::Token(token),
        }
    }
}

fn parse(url: &str) -> Result<Option<UserInfo>, BusError> {
    let shown = without_user_info(url);
    let unusable = |reason: &str| BusError::Unusable(format!("{shown} {reason}"));
    let address: ServerAddr = url.parse().map_err(|_| unusable("is not the URL of a NATS server"))?;
    if !matches!(address.scheme(), "nats" | "tls") {
        return Err(unusable("is a WebSocket, which is not supported: write nats:// or tls://"));
    }
    if address.host().is_empty() {
        return Err(unusable("names no host"));
    }
    let decode = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(|text| text.into_owned()).map_err(|_| unusable("has user information that is not UTF-8"))
    };
    let password = address.password().map(decode).transpose()?;
    match address.username() {
        Some(user) => Ok(Some(UserInfo { user: decode(user)?, password })),
        None if password.is_some() => Err(unusable("has a password, but no user")),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(urls: &[&str]) -> Result<(Vec<String>, NatsCredentials), BusError> {
        split_credentials(&urls.iter().map(|&url| url.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn user_password_and_token_of_a_url_are_decoded_and_removed_from_the_address() {
        let (addresses, credentials) = split(&["nats://bob:p%40s%2Fs@h:1", "tls://i:2"]).unwrap();
        assert_eq!(addresses, ["nats://h:1", "tls://i:2"]);
        let NatsCredentials::Password { user, password: Secret::Text(password) } = credentials else {
            panic!()
        };
        assert_eq!((user.as_str(), password.as_str()), ("bob", "p@s/s"));
        let (addresses, credentials) = split(&["t%6Fken@[::1]:4222"]).unwrap();
        assert_eq!(addresses, ["[::1]:4222"]);
        assert!(matches!(credentials, NatsCredentials::Token(token) if token == "token"));
        assert!(matches!(split(&["nats://h"]).unwrap().1, NatsCredentials::None));
    }

    #[test]
    fn urls_that_cannot_be_used_are_refused_without_their_secrets() {
        let cases: [(&[&str], &str); 8] = [
            (&["ws://h"], "WebSocket"),
            (&["wss://bob:hush@h"], "WebSocket"),
            (&["http://bob:hush@h"], "not the URL"),
            (&["nats://bob:hush@h:99999"], "not the URL"),
            (&["nats://bob:hu/sh@h:1"], "not the URL"),
            (&["nats://:hush@h"], "no user"),
            (&["nats://bob:%ff@h"], "UTF-8"),
            (&["nats://bob:hush@h", "nats://ann:hush@i"], "different users"),
        ];
        for (urls, reason) in cases {
            let error = split(urls).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("hush"), "{urls:?}: {error}");
        }
    }
}
