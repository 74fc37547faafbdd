//! The keys and pools that an auditor knows, `--signers FILE`, and their comparison with those that
//! signed.
//!
//! The file is text. A line is a role and a public key, as in `aggregator UAB…`, or `pool` and the
//! name of a pool; text after `#` is a remark. Roles: `aggregator` signs manifests and entries of
//! the log, `verifier` signs verdicts, `agent` signs shard results. A role without a line in the
//! file is not compared, except `aggregator`, which is required.
//!
//! An agent signs the name of its pool with each result. The aggregator vouches for it: only a
//! credential of the pool can publish under that name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    io::Read,
    path::Path,
};

use forge_contract::{agent::AgentId, ids::PoolName};

use super::{
    evidence::Evidence,
    report::{AuditCheckResult, AuditReport, CheckProblem},
    verification_checks::verifier_keys,
};
use crate::{error::CommandError, text::count_of};

/// Largest signers file that is read.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Keys of a role that are listed in one line.
const MAX_LISTED_KEYS: usize = 3;

/// What a key signs, or a pool of agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum SignerRole {
    Aggregator,
    Verifier,
    Agent,
    Pool,
}

const ROLES: [SignerRole; 4] =
    [SignerRole::Aggregator, SignerRole::Verifier, SignerRole::Agent, SignerRole::Pool];

impl SignerRole {
    fn as_str(self) -> &'static str {
        match self {
            Self::Aggregator => "aggregator",
            Self::Verifier => "verifier",
            Self::Agent => "agent",
            Self::Pool => "pool",
        }
    }

    /// The canonical text of a key or name; the error is for people.
    fn parse_signer(self, text: &str) -> Result<String, String> {
        match self {
            Self::Pool => {
                text.parse::<PoolName>().map(|pool| pool.to_string()).map_err(|error| error.to_string())
            }
            _ => text.parse::<AgentId>().map(|key| key.to_string()).map_err(|error| error.to_string()),
        }
    }
}

impl fmt::Display for SignerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

type KeysByRole = BTreeMap<SignerRole, BTreeSet<String>>;

/// The keys of a signers file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSigners {
    keys: KeysByRole,
}

impl KnownSigners {
    /// Reads a signers file.
    ///
    /// # Errors
    /// [`CommandError::Input`] with the line that is wrong.
    pub fn read(path: &Path) -> Result<Self, CommandError> {
        let invalid = |reason: String| CommandError::Input(format!("--signers {}: {reason}", path.display()));
        let mut text = String::new();
        let file = File::open(path).map_err(|error| invalid(error.to_string()))?;
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|error| invalid(error.to_string()))?;
        Self::parse(&text).map_err(invalid)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut keys = KeysByRole::new();
        for (number, line) in (1..).zip(text.lines()) {
            let content = line.split('#').next().unwrap_or_default();
            let words: Vec<_> = content.split_whitespace().collect();
            let (role, key) = match words.as_slice() {
                [] => continue,
                [role, key] => (*role, *key),
                _ => return Err(format!("line {number} is not a role and a key, as in `aggregator UAB…`")),
            };
            let Some(known) = ROLES.into_iter().find(|known| known.as_str() == role) else {
                return Err(format!(
                    "line {number}: unknown role {role:?}; roles are aggregator, verifier, agent and pool"
                ));
            };
            let key = known.parse_signer(key).map_err(|error| format!("line {number}: {error}"))?;
            keys.entry(known).or_default().insert(key);
        }
        if keys.contains_key(&SignerRole::Aggregator) {
            return Ok(Self { keys });
        }
        Err("it names no aggregator, so no manifest could be accepted".to_owned())
    }

    /// Compares the keys that signed in a role with the known ones.
    fn compare(&self, role: SignerRole, keys: &BTreeSet<String>) -> AuditCheckResult {
        let Some(known) = self.keys.get(&role) else {
            let listed = describe_keys(role, keys);
            return Err(CheckProblem::NotCompared(format!("{listed}: the signers file has no {role}")));
        };
        match keys.difference(known).next() {
            Some(unknown) => {
                Err(CheckProblem::failed(format!("{role} {unknown} is not in the signers file")))
            }
            None => Ok(format!("{}, in the signers file", describe_keys(role, keys))),
        }
    }
}

/// Names the keys that signed and their pools, and compares them with the known ones.
pub fn check_signers(evidence: &Evidence<'_>, known: Option<&KnownSigners>, report: &mut AuditReport) {
    let signers = signers_of(evidence);
    let Some(known) = known else {
        let listed: Vec<_> = signers.iter().map(|(role, keys)| describe_keys(*role, keys)).collect();
        let listed = if listed.is_empty() { "none".to_owned() } else { listed.join("; ") };
        let reason = format!("{listed}: compared with no list of known keys; see --signers");
        return report.add_not_compared("signers", &reason);
    };
    for (role, keys) in &signers {
        report.add(&format!("signers: {role}"), known.compare(*role, keys));
    }
    for role in known.keys.keys().filter(|role| !signers.contains_key(role)) {
        let reason = format!("the documents of the job name no {role}");
        report.add_not_compared(&format!("signers: {role}"), &reason);
    }
}

/// Compares the keys that signed entries of a log with the known aggregators.
pub fn compare_log_signers(keys: &BTreeSet<String>, known: Option<&KnownSigners>) -> AuditCheckResult {
    let role = SignerRole::Aggregator;
    match known {
        _ if keys.is_empty() => Ok("none".to_owned()),
        Some(known) => known.compare(role, keys),
        None => Err(CheckProblem::NotCompared(format!(
            "{}: compared with no list of known keys; see --signers",
            describe_keys(role, keys)
        ))),
    }
}

/// The keys that signed, and the pools of agents; roles without any are absent.
fn signers_of(evidence: &Evidence<'_>) -> KeysByRole {
    let aggregator = evidence.manifest.signer.iter().map(ToString::to_string).collect();
    let executions = evidence.executions().map(|document| document.executions.as_slice()).unwrap_or_default();
    let agents = executions.iter().map(|execution| execution.agent_id.to_string()).collect();
    let pools = executions.iter().map(|execution| execution.pool.to_string()).collect();
    let by_role = [
        (SignerRole::Aggregator, aggregator),
        (SignerRole::Verifier, verifier_keys(evidence)),
        (SignerRole::Agent, agents),
        (SignerRole::Pool, pools),
    ];
    by_role.into_iter().filter(|(_, keys): &(_, BTreeSet<_>)| !keys.is_empty()).collect()
}

fn describe_keys(role: SignerRole, keys: &BTreeSet<String>) -> String {
    let listed: Vec<_> = keys.iter().take(MAX_LISTED_KEYS).map(String::as_str).collect();
    let more = keys.len() - listed.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} {}{more}", count_of(keys.len() as u64, role.as_str()), listed.join(", "))
}

#[cfg(test)]
mod tests {
    use forge_contract::agent::Identity;

    use super::*;

    #[test]
    fn files_hold_a_role_and_a_key_a_line() {
        let key = |seed| Identity::from_random([seed; 32]).id().to_string();
        let text = format!(
            "# production\n\n aggregator {} # eu-1\nverifier\t{}\nagent {0}\npool acme\n",
            key(1),
            key(2)
        );
        let signers = KnownSigners::parse(&text).unwrap();
        assert_eq!(signers.keys[&SignerRole::Aggregator], BTreeSet::from([key(1)]));
        assert_eq!(signers.keys[&SignerRole::Verifier], BTreeSet::from([key(2)]));
        assert_eq!(signers.keys[&SignerRole::Pool], BTreeSet::from(["acme".to_owned()]));
        for (text, reason) in [
            (format!("aggregator {}\npool a.b", key(1)), "line 2: "),
            (format!("verifier {}", key(1)), "it names no aggregator"),
            (format!("aggregator {}\nagent", key(1)), "line 2 is not a role and a key"),
            (format!("Aggregator {}", key(1)), "line 1: unknown role"),
            ("aggregator UABC".to_owned(), "line 1: an agent id is a public NATS user nkey"),
        ] {
            let error = KnownSigners::parse(&text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
