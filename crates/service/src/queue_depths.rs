//! Periodic reports of queue depths to the metrics.

use std::time::Duration;

use forge_bus::{SharedBus, topology::Queue};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Sets the depth metric of each of `queues` once per `interval`, until `stop` is cancelled.
pub async fn report_queue_depths(
    bus: SharedBus,
    queues: Vec<Queue>,
    interval: Duration,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let report = async {
        loop {
            for &queue in &queues {
                // On an error the metric keeps its last value; the worker of the queue logs the error.
                if let Ok(depth) = bus.backlog(queue).await {
                    metrics.set_queue_depth(queue, depth);
                }
            }
            sleep(interval).await;
        }
    };
    stop.run_until_cancelled(report).await;
}

#[cfg(test)]
mod tests {
    use forge_bus::{
        Bus, Message,
        memory::MemoryBus,
        topology::{SUBMIT_SUBJECT, TopologySettings},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn depths_are_reported_until_stopped() {
        let bus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        bus.publish(Message::new(SUBMIT_SUBJECT, "a"), "1").await.unwrap();
        let (metrics, stop) = (Metrics::new("test"), CancellationToken::new());
        let queues = vec![Queue::Jobs, Queue::Reduce];
        let report = report_queue_depths(bus, queues, Duration::from_secs(5), metrics.clone(), stop.clone());
        let report = tokio::spawn(report);
        sleep(Duration::from_millis(10)).await;
        stop.cancel();
        report.await.unwrap();
        let text = metrics.encode();
        assert!(text.contains("forge_queue_depth{service=\"test\",queue=\"jobs\"} 1"), "{text}");
        assert!(text.contains("forge_queue_depth{service=\"test\",queue=\"reduce\"} 0"), "{text}");
    }
}
