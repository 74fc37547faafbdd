//! Watches the streams that a service needs while it runs. NATS may come back from an outage
//! without its data, or be unable to serve them: the service then reports that it is not ready,
//! goes to another server if this one does not serve them, creates what is missing if it may, and
//! continues.

use std::time::Duration;

use forge_bus::{BusError, SharedBus, topology::Queue};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::http::Health;

/// Interval between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Number of checks after which a connection that lacks a subscription is made anew: the limit may
/// have been raised.
const CHECKS_BEFORE_RECONNECT: u32 = 15;

/// Checks one queue once per interval until `stop` is cancelled. While it is missing or cannot be
/// read, the service is not ready, and the topology is prepared again.
///
/// Without a connection nothing is checked: `/readyz` reports that by itself.
pub async fn watch_topology(bus: SharedBus, queue: Queue, health: Health, stop: CancellationToken) {
    let watch = async {
        let mut is_refused = false;
        let mut checks_with_denial = 0;
        loop {
            sleep(CHECK_INTERVAL).await;
            if !bus.is_connected() {
                continue;
            }
            let refusal = bus.storage_refusal();
            report_refusal(&health, is_refused, refusal.as_deref());
            is_refused = refusal.is_some();
            let is_denied = bus.has_denied_subscription();
            report_denial(&health, checks_with_denial > 0, is_denied);
            checks_with_denial = if is_denied { checks_with_denial + 1 } else { 0 };
            if checks_with_denial > 0 && checks_with_denial % CHECKS_BEFORE_RECONNECT == 0 {
                bus.reconnect().await;
            }
            if let Err(error) = bus.backlog(queue).await
                && bus.is_connected()
            {
                restore(&bus, &health, error).await;
            }
        }
    };
    stop.run_until_cancelled(watch).await;
}

/// Reports that NATS stores nothing, or that it does again.
fn report_refusal(health: &Health, was_refused: bool, refusal: Option<&str>) {
    match refusal {
        Some(reason) => {
            if !was_refused {
                tracing::error!(
                    reason,
                    "NATS stores no messages of this service; retrying. A full stream gets space when jobs have ended or \
                     are cancelled. A server whose disk was full needs space, and then a restart"
                );
            }
            health.set_not_ready(format!("NATS does not store messages: {reason}"));
        }
        None if was_refused => {
            tracing::info!("NATS stores messages again; the service is ready");
            health.set_ready();
        }
        None => {}
    }
}

/// Reports that the server denies this service a subscription, or that it has all of them again.
fn report_denial(health: &Health, was_denied: bool, is_denied: bool) {
    if is_denied {
        if !was_denied {
            tracing::error!(
                "the NATS server permits this service too few subscriptions: raise max_subscriptions, or the limit of \
                 the account; connecting again every 30 s"
            );
        }
        health.set_not_ready("the NATS server permits too few subscriptions (max_subscriptions)");
    } else if was_denied {
        tracing::info!("the service has all of its subscriptions; it is ready");
        health.set_ready();
    }
}

/// Prepares the topology until that succeeds. `error` is the reason for which it is necessary.
async fn restore(bus: &SharedBus, health: &Health, mut error: BusError) {
    let mut logged = String::new();
    loop {
        if matches!(error, BusError::Unavailable(_)) {
            bus.leave_server().await;
        }
        let text = error.to_string();
        health.set_not_ready(text.clone());
        if text != logged {
            tracing::error!(
                error = text,
                "NATS does not serve the streams of this service; preparing them again"
            );
            logged = text;
        }
        match bus.prepare().await {
            Ok(()) => break,
            Err(failure) => error = failure,
        }
        sleep(CHECK_INTERVAL).await;
    }
    health.set_ready();
    tracing::info!("the streams and buckets exist again; the service is ready");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forge_bus::{
        memory::MemoryBus,
        testing::{BusFault, BusOperation, FaultyBus},
        topology::TopologySettings,
    };
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_service_whose_messages_are_not_stored_is_not_ready() {
        let health = Health::new();
        health.set_ready();
        report_refusal(&health, false, Some("no space left on device"));
        assert!(health.readiness_failure().unwrap().contains("no space left"));
        report_refusal(&health, true, Some("no space left on device"));
        assert!(health.readiness_failure().is_some());
        report_refusal(&health, true, None);
        assert_eq!(health.readiness_failure(), None);
    }

    #[test]
    fn a_service_that_lacks_a_subscription_is_not_ready() {
        let health = Health::new();
        health.set_ready();
        report_denial(&health, false, true);
        assert!(health.readiness_failure().unwrap().contains("max_subscriptions"));
        report_denial(&health, true, false);
        assert_eq!(health.readiness_failure(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_without_its_streams_is_not_ready_until_they_are_prepared_again() {
        let inner = MemoryBus::new(TopologySettings::default());
        let start = Instant::now();
        // After ten seconds the data is lost, and for ten more it cannot be created.
        let is_lost = move || start.elapsed() > Duration::from_secs(10);
        let cannot_create = move || is_lost() && start.elapsed() < Duration::from_secs(20);
        let faulty = FaultyBus::new(inner.clone(), move |operation| match operation {
            BusOperation::Backlog { .. } if cannot_create() => {
                BusFault::Error(BusError::Missing("the stream x".to_owned()))
            }
            BusOperation::Prepare if cannot_create() => {
                BusFault::Error(BusError::Full("the disk is full".to_owned()))
            }
            _ => BusFault::None,
        });
        let bus: SharedBus = Arc::new(faulty);
        bus.prepare().await.unwrap();
        let (health, stop) = (Health::new(), CancellationToken::new());
        health.set_ready();
        tokio::spawn(watch_topology(bus, Queue::Jobs, health.clone(), stop.clone()));
        let at = |seconds| sleep(Duration::from_secs(seconds).saturating_sub(start.elapsed()));
        at(9).await;
        assert_eq!(health.readiness_failure(), None);
        at(15).await;
        assert!(health.readiness_failure().unwrap().contains("the disk is full"));
        at(25).await;
        assert_eq!(health.readiness_failure(), None);
        stop.cancel();
    }
}
