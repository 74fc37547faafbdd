//! Agents: the identities that execute and verify shards, their records in the registry, and
//! signatures.
//!
//! An agent is an ed25519 NATS user nkey, and its public key is its id. This module uses keys; it
//! neither generates nor stores them. Each signed document defines the bytes that its signature
//! covers.

use std::{fmt, str::FromStr};

use ed25519_dalek::VerifyingKey;
use nkeys::{KeyPair, KeyPairType};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    digest::Digest,
    envelope::Target,
    ids::{JobUid, PoolName},
    shard::ShardId,
};

/// An agent's id: its public user nkey, `U` followed by 55 base-32 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct AgentId(String);

/// Error: the text is not a public user nkey, or its key is weak.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an agent id is a public NATS user nkey: U and 55 characters out of A-Z and 2-7, with a valid checksum and a \
     key that is not weak"
)]
pub struct InvalidAgentId;

impl AgentId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `signature` is this agent's signature over `message`. Verification is strict (RFC
    /// 8032 without cofactor, no points of small order), so that every implementation agrees, and
    /// no signature is valid for many messages.
    pub fn verify_signature(&self, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_slice(&signature.0);
        let key = strong_key(&self.0);
        key.zip(signature.ok()).is_some_and(|(key, signature)| key.verify_strict(message, &signature).is_ok())
    }
}

/// The key of a public nkey; `None` for a key of small order, under which anyone can sign.
fn strong_key(text: &str) -> Option<VerifyingKey> {
    let (_, bytes) = nkeys::from_public_key(text).ok()?;
    VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak())
}

impl FromStr for AgentId {
    type Err = InvalidAgentId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = KeyPair::from_public_key(text).map_err(|_| InvalidAgentId)?;
        let user = matches!(key.key_pair_type(), KeyPairType::User) && key.public_key() == text;
        if user && strong_key(text).is_some() { Ok(Self(text.to_owned())) } else { Err(InvalidAgentId) }
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AgentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for AgentId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AgentId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^U[A-Z2-7]{55}$",
            "description": "An agent: its public NATS user nkey (ed25519)."
        })
    }
}

/// An ed25519 signature (64 bytes), serialised as 128 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature(Vec<u8>);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", hex::encode(&self.0))
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = vec![0; 64];
        let is_lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_lower || hex::decode_to_slice(&text, &mut bytes).is_err() {
            return Err(serde::de::Error::custom("a signature is 128 lower-case hexadecimal digits"));
        }
        Ok(Self(bytes))
    }
}

impl JsonSchema for Signature {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Signature".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9a-f]{128}$",
            "description": "An ed25519 signature: 128 lower-case hexadecimal digits."
        })
    }
}

/// An agent's key pair. `Debug` shows the public id only; the secret half is never logged or sent.
pub struct Identity {
    key: KeyPair,
    id: AgentId,
}

/// Error: the text is not the seed of a user nkey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the text is not the seed of a NATS user nkey, which is SU followed by 56 characters")]
pub struct InvalidSeed;

impl Identity {
    /// Derives the identity from 32 bytes, which must come from a cryptographic random source.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        let key = KeyPair::new_from_raw(KeyPairType::User, bytes).expect("any 32 bytes are an ed25519 seed");
        Self { id: AgentId(key.public_key()), key }
    }

    /// Reads an nkey seed as `nk -gen user` prints it. Surrounding white space is ignored.
    ///
    /// # Errors
    /// [`InvalidSeed`] when the text is not the seed of a user nkey.
    pub fn from_seed(seed: &str) -> Result<Self, InvalidSeed> {
        let key = KeyPair::from_seed(seed.trim()).map_err(|_| InvalidSeed)?;
        let id = key.public_key().parse().map_err(|_| InvalidSeed)?;
        Ok(Self { key, id })
    }

    /// The public half.
    pub fn id(&self) -> &AgentId {
        &self.id
    }

    /// Signs `message` with the private key.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.key.sign(message).expect("an identity holds a seed"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.id)
    }
}

/// An agent's entry in the registry, rewritten with every heartbeat: of a worker in bucket
/// `forge_workers`, key `<pool>.<agent id>`; of another agent in bucket `forge_agents`, key
/// `verifiers.<agent id>` or `aggregators.<agent id>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Forge agent")]
pub struct AgentRecord {
    /// Always `forge.agent.v1`.
    pub schema: String,
    /// Id of the agent.
    pub agent_id: AgentId,
    /// Pool of a worker; `verifiers` or absent for other agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolName>,
    /// Whether the agent accepts shards.
    pub state: AgentState,
    /// Hardware that the agent executes on: `cpu` or `gpu`.
    pub target: Target,
    /// Name of the executing backend, such as `simd-avx2`.
    pub backend: String,
    /// Device and driver; absent when the agent executes on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Number of shards that the agent executes concurrently. If its backend batches shards, the
    /// number of concurrent batches.
    pub slots: u32,
    /// Maximum number of shards in a batch; 1 on a CPU. Default: 1.
    #[serde(default = "default_batch_size")]
    pub batch: u32,
    /// Kernel version that the agent implements.
    pub kernel: u32,
    /// Software version.
    pub version: String,
    /// Name of the machine or pod, for operators only.
    pub host: String,
}

impl AgentRecord {
    /// Value of `schema`.
    pub const SCHEMA: &str = "forge.agent.v1";
}

fn default_batch_size() -> u32 {
    1
}

/// The kind of hardware that executed a shard.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Hardware {
    /// A CPU backend.
    #[default]
    Cpu,
    /// A GPU backend.
    Gpu,
}

impl Hardware {
    /// Derives the kind from a record's `adapter`: only GPU backends have an adapter.
    pub fn from_adapter(adapter: Option<&str>) -> Self {
        if adapter.is_some() { Self::Gpu } else { Self::Cpu }
    }

    /// The target that selects exactly this hardware.
    pub fn target(self) -> Target {
        match self {
            Self::Cpu => Target::Cpu,
            Self::Gpu => Target::Gpu,
        }
    }
}

/// Whether an agent accepts shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// The agent accepts shards.
    Live,
    /// The agent shut down gracefully. Its results remain valid.
    Left,
}

/// Quarantine of an agent after one of its results was refuted: bucket `forge_agents`, key
/// `quarantine.<agent id>`. To readmit the agent, an operator removes the cause of the error and
/// then deletes the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Forge quarantine")]
pub struct QuarantineRecord {
    /// Always `forge.quarantine.v1`.
    pub schema: String,
    /// Id of the quarantined agent.
    pub agent_id: AgentId,
    /// Pool of the agent.
    pub pool: PoolName,
    /// Uid of the job in which the wrong result was detected.
    pub job_uid: JobUid,
    /// Shard to which the wrong result belongs.
    pub shard_id: ShardId,
    /// SHA-256 of the wrong result that the agent returned.
    pub claimed: Digest,
    /// SHA-256 of the result that the scalar reference computes.
    pub correct: Digest,
    /// Id of the verifier that detected the wrong result.
    pub verifier_id: AgentId,
}

impl QuarantineRecord {
    /// Value of `schema`.
    pub const SCHEMA: &str = "forge.quarantine.v1";
}

/// Quarantine of a whole pool, after wrong results of several of its agents: bucket `forge_agents`,
/// key `quarantined-pools.<pool>`. To readmit the pool, an operator deletes the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Forge pool quarantine")]
pub struct PoolQuarantineRecord {
    /// Always `forge.pool-quarantine.v1`.
    pub schema: String,
    /// The quarantined pool.
    pub pool: PoolName,
    /// Quarantined agents of the pool at the time, at most 16 of them.
    pub agents: Vec<AgentId>,
}

impl PoolQuarantineRecord {
    /// Value of `schema`.
    pub const SCHEMA: &str = "forge.pool-quarantine.v1";
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEAK_NKEYS: [&str; 4] = [
        "UAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABVBG",
        "UDWP77777777777777777777777777777777777777777777777X7IKF",
        "UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABET7",
        "UATORFMPYKZCPMCFYP2IT4XPTDYNLX5MAXJ4MMZZWE4AFCDNKP6AKIUQ",
    ];

    #[test]
    fn a_signature_verifies_only_for_its_key_and_message() {
        let (a, b) = (Identity::from_random([1; 32]), Identity::from_random([2; 32]));
        let message = b"a message".as_slice();
        let signature = a.sign(message);
        assert!(a.id().verify_signature(message, &signature));
        assert!(!b.id().verify_signature(message, &signature));
        assert!(!a.id().verify_signature(&message[1..], &signature));
        let json = serde_json::to_string(&signature).unwrap();
        assert_eq!(serde_json::from_str::<Signature>(&json).unwrap(), signature);
    }

    #[test]
    fn keys_of_small_order_are_no_ids() {
        // The points of order 1, 2, 4 and 8 (RFC 7748 names them for curve25519), as nkeys.
        for weak in WEAK_NKEYS {
            assert!(KeyPair::from_public_key(weak).is_ok(), "{weak}: only its weakness makes it invalid");
            assert_eq!(weak.parse::<AgentId>(), Err(InvalidAgentId), "{weak}");
            // Under a key of order 1, the signature R = 1, s = 0 is valid for any message.
            let id = AgentId(weak.to_owned());
            let mut signature = vec![0; 64];
            signature[0] = 1;
            assert!(!id.verify_signature(b"any message", &Signature(signature)));
        }
    }

    #[test]
    fn ids_and_seeds_must_be_user_nkeys() {
        let id = Identity::from_random([7; 32]);
        assert_eq!(id.id().as_str().parse::<AgentId>().unwrap(), *id.id());
        let account = KeyPair::new_from_raw(KeyPairType::Account, [7; 32]).unwrap();
        assert!(account.public_key().parse::<AgentId>().is_err());
        assert!(Identity::from_seed(&account.seed().unwrap()).is_err());
        let user = KeyPair::new_from_raw(KeyPairType::User, [7; 32]).unwrap();
        assert_eq!(Identity::from_seed(&user.seed().unwrap()).unwrap().id(), id.id());
        assert!(!format!("{id:?}").contains("SU"));
    }
}
