//! Agents: who executes and verifies shards. An agent is an ed25519 NATS nkey; its public key is its name. What an agent
//! says about itself, and what it signs. Keys are used here and never made or stored.

use std::{fmt, str::FromStr};

use nkeys::{KeyPair, KeyPairType};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{digest::Digest, envelope::Target, ids::JobId, shard::ShardId};

/// An agent's name: its public user nkey, `U` and 55 characters of base 32.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct AgentId(String);

/// The text is not a public user nkey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an agent id is a public NATS user nkey: U and 55 characters out of A-Z and 2-7, with a valid checksum"
)]
pub struct InvalidAgentId;

impl AgentId {
    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `signature` is this agent's over `message`.
    pub fn verify_signature(&self, message: &[u8], signature: &Signature) -> bool {
        let key = KeyPair::from_public_key(&self.0);
        key.is_ok_and(|key| key.verify(message, &signature.0).is_ok())
    }
}

impl FromStr for AgentId {
    type Err = InvalidAgentId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = KeyPair::from_public_key(text).map_err(|_| InvalidAgentId)?;
        let user = matches!(key.key_pair_type(), KeyPairType::User) && key.public_key() == text;
        if user { Ok(Self(text.to_owned())) } else { Err(InvalidAgentId) }
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

/// An ed25519 signature, 64 bytes; written as 128 hexadecimal digits.
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
        let wrong = |_| serde::de::Error::custom("a signature is 128 hexadecimal digits");
        hex::decode_to_slice(text, &mut bytes).map_err(wrong)?;
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

/// An agent's key pair. Never shown, logged or sent.
pub struct Identity {
    key: KeyPair,
    id: AgentId,
}

/// The text is not the seed of a user nkey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not the seed of a NATS user nkey: SU and 56 characters")]
pub struct InvalidSeed;

impl Identity {
    /// The identity of 32 random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        let key = KeyPair::new_from_raw(KeyPairType::User, bytes).expect("any 32 bytes are an ed25519 seed");
        Self { id: AgentId(key.public_key()), key }
    }

    /// The identity of an nkey's seed, as `nk -gen user` prints it.
    ///
    /// # Errors
    /// [`InvalidSeed`].
    pub fn from_seed(seed: &str) -> Result<Self, InvalidSeed> {
        let key = KeyPair::from_seed(seed.trim()).map_err(|_| InvalidSeed)?;
        let id = key.public_key().parse().map_err(|_| InvalidSeed)?;
        Ok(Self { key, id })
    }

    /// The agent's name.
    pub fn id(&self) -> &AgentId {
        &self.id
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.key.sign(message).expect("an identity holds a seed"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.id)
    }
}

/// What an agent says about itself in the registry: bucket `forge_agents`, key `workers.<agent id>` or
/// `verifiers.<agent id>`. Written again with every heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Forge agent")]
pub struct AgentRecord {
    /// Always `forge.agent.v1`.
    pub schema: String,
    /// The agent.
    pub agent_id: AgentId,
    /// Whether it takes shards.
    pub state: AgentState,
    /// The hardware it executes on: `cpu` or `gpu`.
    pub target: Target,
    /// The backend that executes its shards, as in `simd-avx2`.
    pub backend: String,
    /// The device and its driver, where it does not execute on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Shards that it executes at once; batches of them, where it executes several together.
    pub slots: u32,
    /// Shards in a batch, at most: 1 for a CPU.
    #[serde(default = "one")]
    pub batch: u32,
    /// Version of the kernel.
    pub kernel: u32,
    /// Version of the software.
    pub version: String,
    /// Name of the machine or pod, for people.
    pub host: String,
}

impl AgentRecord {
    /// What `schema` says.
    pub const SCHEMA: &str = "forge.agent.v1";
}

fn one() -> u32 {
    1
}

/// What kind of hardware executed a shard.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Hardware {
    /// A CPU.
    #[default]
    Cpu,
    /// A GPU.
    Gpu,
}

impl Hardware {
    /// The kind that a record's `adapter` stands for: whatever has one is not a CPU.
    pub fn from_adapter(adapter: Option<&str>) -> Self {
        if adapter.is_some() { Self::Gpu } else { Self::Cpu }
    }

    /// The queue of shards that only this hardware takes.
    pub fn target(self) -> Target {
        match self {
            Self::Cpu => Target::Cpu,
            Self::Gpu => Target::Gpu,
        }
    }
}

/// Whether an agent takes shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// It does.
    Live,
    /// It has been shut down in good order. Its results still count.
    Left,
}

/// Why an agent's results no longer count: bucket `forge_agents`, key `quarantine.<agent id>`. An operator who has found
/// and removed the cause deletes the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Forge quarantine")]
pub struct QuarantineRecord {
    /// Always `forge.quarantine.v1`.
    pub schema: String,
    /// The agent.
    pub agent_id: AgentId,
    /// The job in which it was found out.
    pub job_id: JobId,
    /// The shard that it returned a wrong result for.
    pub shard_id: ShardId,
    /// What it returned.
    pub claimed: Digest,
    /// What the scalar reference gives.
    pub correct: Digest,
    /// The verifier that found it out.
    pub verifier_id: AgentId,
}

impl QuarantineRecord {
    /// What `schema` says.
    pub const SCHEMA: &str = "forge.quarantine.v1";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_key_over_one_message() {
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
    fn ids_and_seeds_are_user_nkeys() {
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
