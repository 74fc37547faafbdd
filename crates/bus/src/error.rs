//! The one error type of the crate. Variants tell the caller what to do next: retry, wait for a
//! planner, report to the operator, or report to the user.

use forge_contract::error::ErrorClass;

/// Error of a bus operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The request, the configuration or the server is at fault. Retrying does not help; an
    /// operator must act.
    #[error("{0}")]
    Unusable(String),
    /// An entry or a message holds what no service of this version writes. Retrying does not help;
    /// an operator must restore or remove it.
    #[error("{0}")]
    Corrupt(String),
    /// The stream, consumer or bucket does not exist: no planner has prepared the topology yet.
    #[error("{0} does not exist yet: a planner creates it when it starts")]
    Missing(String),
    /// The server is unreachable or its reply is unusable. Retry with backoff.
    #[error("{0}")]
    Unavailable(String),
    /// The stream or bucket has no space for the message, or holds too many messages of its
    /// subject. Nothing was stored. Retry with backoff: the end of a job frees space.
    #[error("no space for the message: {0}")]
    Full(String),
    /// The message or value exceeds the server's `max_payload` or the limit of its stream or
    /// bucket.
    #[error("the message has {size} bytes, but at most {limit} are accepted")]
    TooLarge {
        /// Payload and headers, in bytes.
        size: usize,
        /// Largest accepted size, in bytes.
        limit: usize,
    },
    /// No endpoint serves the request, or no reply arrived within its timeout.
    #[error("no reply: {0}")]
    NoResponse(String),
    /// The endpoint replied with an error, or a conditional write found another revision (status
    /// 409).
    #[error("{reason}")]
    Refused {
        /// Status code with HTTP semantics.
        status: u16,
        /// One sentence, safe to show to the user.
        reason: String,
    },
}

impl BusError {
    /// What a caller that has no better knowledge should do.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Missing(_) | Self::Unavailable(_) | Self::Full(_) | Self::NoResponse(_) => {
                ErrorClass::Transient
            }
            Self::Refused { status: 500.., .. } => ErrorClass::Transient,
            Self::Unusable(_) => ErrorClass::Permanent,
            Self::TooLarge { .. } | Self::Refused { .. } => ErrorClass::Refusal,
            Self::Corrupt(_) => ErrorClass::Fault,
        }
    }
}
