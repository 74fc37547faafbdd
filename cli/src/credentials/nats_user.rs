//! The users of a deployment: one for each role, pool of workers and submitter.

use std::{fmt, str::FromStr};

use forge_contract::ids::{PoolName, Submitter};

use crate::cluster::parse_worker_pool;

/// Roles of which a deployment has one user.
pub(super) const ROLES: [&str; 6] = ["planner", "verifier", "aggregator", "client", "operator", "console"];

/// A pool of workers: one credential, and the hardware of its workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pool {
    /// Name of the pool.
    pub name: PoolName,
    /// Whether its workers execute on GPUs.
    pub is_gpu: bool,
}

impl FromStr for Pool {
    type Err = String;

    /// Parses `NAME` or `NAME:gpu`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, is_gpu) = match text.split_once(':') {
            None => (text, false),
            Some((name, "gpu")) => (name, true),
            Some((name, "cpu")) => (name, false),
            Some((_, other)) => return Err(format!("{other:?} is no hardware: use cpu or gpu")),
        };
        Ok(Self { name: parse_worker_pool(name)?, is_gpu })
    }
}

impl fmt::Display for Pool {
    /// The text that parses to this pool.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, if self.is_gpu { ":gpu" } else { "" })
    }
}

/// What a user stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UserKind {
    /// A role that exists once.
    Role(&'static str),
    /// The workers of a pool.
    Pool(Pool),
    /// A client that submits under one submitter's name only.
    Submitter(Submitter),
}

impl UserKind {
    /// The user of the committed configuration whose permissions this one has.
    pub(super) fn template(&self) -> &'static str {
        match self {
            Self::Role(role) => role,
            Self::Pool(Pool { is_gpu: true, .. }) => "worker-gpu",
            Self::Pool(Pool { is_gpu: false, .. }) => "worker",
            Self::Submitter(_) => "client",
        }
    }
}

/// A user of nats-server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NatsUser {
    /// Name of the user; its replies arrive below `_INBOX_<name>`.
    pub name: String,
    pub kind: UserKind,
}

/// The users of a deployment with these pools and submitters.
pub(super) fn users(pools: &[Pool], submitters: &[Submitter]) -> Vec<NatsUser> {
    let roles = ROLES.into_iter().map(|role| NatsUser { name: role.to_owned(), kind: UserKind::Role(role) });
    let pools = pools.iter().map(|pool| NatsUser {
        name: match pool.name.as_str() {
            PoolName::DEFAULT => "worker".to_owned(),
            name => format!("worker-{name}"),
        },
        kind: UserKind::Pool(pool.clone()),
    });
    let submitters = submitters.iter().map(|submitter| NatsUser {
        name: format!("client-{submitter}"),
        kind: UserKind::Submitter(submitter.clone()),
    });
    roles.chain(pools).chain(submitters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_named_with_their_hardware() {
        let pool = |text: &str| text.parse::<Pool>().map(|pool| (pool.name.to_string(), pool.is_gpu));
        assert_eq!(pool("acme"), Ok(("acme".to_owned(), false)));
        assert_eq!(pool("acme:cpu"), Ok(("acme".to_owned(), false)));
        assert_eq!(pool("render:gpu"), Ok(("render".to_owned(), true)));
        for text in ["acme", "render:gpu"] {
            assert_eq!(text.parse::<Pool>().unwrap().to_string(), text);
        }
        for invalid in ["", "a.b", "a b", "*", "verifiers", "a:tpu", ":gpu", &"x".repeat(33)] {
            assert!(pool(invalid).is_err(), "{invalid}");
        }
    }
}
