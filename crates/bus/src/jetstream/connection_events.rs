//! Asynchronous notices of the connection: reconnects, and permission violations. The server
//! reports a violation on the connection and never replies to the request that caused it.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use async_nats::{Event, ServerError};
use tokio::{sync::watch, time::Instant};

use crate::error::BusError;

/// Records the events of one connection for the operations that use it.
#[derive(Default)]
pub(super) struct ConnectionEvents {
    /// Number of connections made so far.
    connections: watch::Sender<u64>,
    /// Latest violation per subject since the last connect.
    violations: watch::Sender<BTreeMap<String, PermissionViolation>>,
    /// Whether a subscription exceeded a limit since the last connect.
    has_denied_subscription: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct PermissionViolation {
    at: Instant,
    is_subscription: bool,
}

impl ConnectionEvents {
    /// Records and logs an event.
    pub(super) fn record(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.violations.send_replace(BTreeMap::new());
                self.has_denied_subscription.store(false, Ordering::Relaxed);
                self.connections.send_modify(|count| *count += 1);
            }
            Event::ServerError(ServerError::Other(text)) => match parse_violation(text) {
                Some((subject, is_subscription)) => {
                    tracing::warn!(
                        subject,
                        is_subscription,
                        "the permissions of this NATS account deny a subject"
                    );
                    let violation = PermissionViolation { at: Instant::now(), is_subscription };
                    self.violations.send_modify(|violations| {
                        violations.insert(subject.to_owned(), violation);
                    });
                }
                None => {
                    tracing::warn!(error = text, "the NATS server reported an error");
                    if is_subscription_limit(text) {
                        self.has_denied_subscription.store(true, Ordering::Relaxed);
                    }
                }
            },
            Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) => {
                tracing::warn!(%event, "the NATS connection has a problem");
            }
            _ => tracing::info!(%event, "the state of the NATS connection changed"),
        }
    }

    /// Whether a subscription exceeded a limit since the last connect.
    pub(super) fn has_denied_subscription(&self) -> bool {
        self.has_denied_subscription.load(Ordering::Relaxed)
    }

    /// A receiver of the number of connections: it changes with every reconnect.
    pub(super) fn connection_count(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }

    /// Resolves once the server denies publishing to `subject` after this call, or has denied
    /// subscribing to an inbox below `inbox_prefix`, so that no reply can arrive.
    pub(super) async fn violation(&self, subject: &str, inbox_prefix: &str) -> BusError {
        let since = Instant::now();
        let mut violations = self.violations.subscribe();
        let concerns_caller = |denied: &str, violation: &PermissionViolation| {
            if violation.is_subscription {
                denied.starts_with(inbox_prefix)
            } else {
                violation.at >= since && denied == subject
            }
        };
        let violations = violations
            .wait_for(|all| all.iter().any(|(denied, violation)| concerns_caller(denied, violation)))
            .await
            .expect("self owns the sender");
        let (denied, violation) = violations
            .iter()
            .find(|(denied, violation)| concerns_caller(denied, violation))
            .expect("wait_for found one");
        let action = if violation.is_subscription { "subscribe to" } else { "publish to" };
        BusError::Unusable(format!("this NATS account is not permitted to {action} {denied}"))
    }
}

/// Whether this is the error after a subscription beyond the limit of a connection or an account.
fn is_subscription_limit(text: &str) -> bool {
    text.to_ascii_lowercase().contains("subscriptions exceeded")
}

/// Parses the text of a permission violation: the denied subject, and whether a subscription was
/// denied.
fn parse_violation(text: &str) -> Option<(&str, bool)> {
    let start = text.get(..22).filter(|start| start.eq_ignore_ascii_case("permissions violation "))?;
    let rest = &text[start.len()..];
    let is_subscription = rest.to_ascii_lowercase().starts_with("for subscription");
    Some((rest.split('"').nth(1)?, is_subscription))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_parsed() {
        let publish = "Permissions Violation for Publish to \"a.b\"";
        assert_eq!(parse_violation(publish), Some(("a.b", false)));
        let subscribe = "Permissions Violation for Subscription to \"c.>\" using queue \"q\"";
        assert_eq!(parse_violation(subscribe), Some(("c.>", true)));
        assert_eq!(parse_violation("maximum payload exceeded"), None);
    }
}
