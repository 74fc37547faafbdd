//! Why a result could not be published.

use forge_bus::BusError;
use forge_contract::error::FailureCode;
use forge_store::StoreError;

/// Why a result could not be published.
#[derive(Debug)]
pub(crate) enum PublishError {
    /// The job fails.
    Failed {
        code: FailureCode,
        /// A sentence for people.
        message: String,
    },
    /// The bus failed, so nothing is decided.
    Bus(BusError),
    /// A verifier has refuted a result since the results were collected.
    Refuted,
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> Self {
        Self::Failed { code: FailureCode::StorageFailed, message: error.to_string() }
    }
}

impl From<BusError> for PublishError {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}
