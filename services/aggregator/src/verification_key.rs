//! The secret that selects shards for verification. Workers must never read it: a worker that could
//! predict the selection could return wrong results for all other shards.

use std::{fmt, sync::Arc};

use forge_bus::{Bus, BusError, topology::Bucket};

/// Entry of bucket `forge_secrets` that holds the key.
const BUCKET_ENTRY: &str = "verify_key";
/// Length of a generated key.
const KEY_BYTES: usize = 32;

/// The HMAC key that all aggregators share. Its `Debug` output omits the bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct VerificationKey(Arc<[u8]>);

impl VerificationKey {
    /// Reads the key from the bus. The first aggregator of a deployment generates it.
    ///
    /// # Errors
    /// Returns any error of the bus, and [`BusError::Unusable`] when the system has no randomness.
    pub async fn load_or_create(bus: &dyn Bus) -> Result<Self, BusError> {
        let mut generated = [0; KEY_BYTES];
        getrandom::fill(&mut generated).map_err(|error| {
            BusError::Unusable(format!("generating the verification key failed: {error}"))
        })?;
        loop {
            let entry = bus.get(&Bucket::Secrets, BUCKET_ENTRY).await?;
            if let Some(key) = entry.and_then(|entry| entry.value) {
                return Ok(Self::from(key.as_ref()));
            }
            // If another aggregator was first, nothing is written and the next read returns its
            // key.
            let key = generated.to_vec().into();
            bus.compare_and_set(&Bucket::Secrets, BUCKET_ENTRY, key, None).await?;
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for VerificationKey {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerificationKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use forge_bus::{MemoryBus, topology::TopologySettings};

    use super::*;

    #[tokio::test]
    async fn all_aggregators_of_a_deployment_share_one_key() {
        let bus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        let first = VerificationKey::load_or_create(bus.as_ref()).await.unwrap();
        let second = VerificationKey::load_or_create(bus.as_ref()).await.unwrap();
        assert_eq!(first, second);
        assert_eq!(first.as_bytes().len(), KEY_BYTES);
        assert_eq!(format!("{first:?}"), "VerificationKey(..)");
    }
}
