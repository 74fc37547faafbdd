//! Turns the result of handling a message into its settlement.

use forge_bus::BusError;
use forge_service::Settlement;

/// Logs a bus error and returns the message for another delivery. `operation` names the step that
/// failed.
pub fn retry_later(operation: &str, error: &BusError) -> Settlement {
    tracing::warn!(%error, "{operation} failed; retrying with backoff");
    Settlement::Backoff
}

/// Acknowledges a message once its consequences are durable, and retries it otherwise.
pub fn to_settlement(operation: &str, result: Result<(), BusError>) -> Settlement {
    match result {
        Ok(()) => Settlement::Ack,
        Err(error) => retry_later(operation, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_operation_is_retried_and_successful_one_acknowledged() {
        assert_eq!(to_settlement("publishing", Ok(())), Settlement::Ack);
        let failed = to_settlement("publishing", Err(BusError::Unavailable("no server".to_owned())));
        assert_eq!(failed, Settlement::Backoff);
    }
}
