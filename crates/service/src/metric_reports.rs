//! Periodic updates of metrics whose values no event announces: queue depths, unreadable messages,
//! live agents and waiting jobs.

use std::time::Duration;

use forge_bus::{SharedBus, topology::Queue};
use forge_contract::envelope::Target;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{job_watch::JobWatch, metrics::Metrics, registry::Registry};

/// Updates the depth metric of each of `queues` and the number of unreadable messages once per
/// `interval`, until `stop` is cancelled.
pub async fn report_bus(
    bus: SharedBus,
    queues: Vec<Queue>,
    interval: Duration,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let report = async {
        loop {
            metrics.set_unreadable_messages(bus.unreadable_messages());
            for &queue in &queues {
                // On an error the metric keeps its last value; the worker of the queue logs the
                // error.
                if let Ok(depth) = bus.backlog(queue).await {
                    metrics.set_queue_depth(queue, depth);
                }
            }
            sleep(interval).await;
        }
    };
    stop.run_until_cancelled(report).await;
}

/// Sets the gauges of live agents for every target and of waiting jobs once per `interval`, until
/// `stop` is cancelled.
pub async fn report_cluster(
    registry: Registry,
    job_watch: JobWatch,
    interval: Duration,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let report = async {
        loop {
            for target in [Target::Any, Target::Cpu, Target::Gpu] {
                metrics.set_live_agents(target, registry.live_capacity(target).agents);
            }
            metrics.set_jobs_waiting(job_watch.waiting_jobs());
            sleep(interval).await;
        }
    };
    stop.run_until_cancelled(report).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forge_bus::{
        Bus, Message,
        memory::MemoryBus,
        topology::{SUBMIT_SUBJECT, TopologySettings},
    };
    use forge_contract::{agent::Identity, ids::PoolName};
    use forge_kernel::backend::scalar::Scalar;

    use super::*;
    use crate::registry::{self, AgentCapacity, agent_record};

    #[tokio::test(start_paused = true)]
    async fn depths_are_reported_until_stopped() {
        let bus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        bus.publish(Message::new(SUBMIT_SUBJECT, "a"), "1").await.unwrap();
        let (metrics, stop) = (Metrics::new("test"), CancellationToken::new());
        let queues = vec![Queue::Jobs, Queue::Reduce];
        let report = report_bus(bus, queues, Duration::from_secs(5), metrics.clone(), stop.clone());
        let report = tokio::spawn(report);
        sleep(Duration::from_millis(10)).await;
        stop.cancel();
        report.await.unwrap();
        let text = metrics.encode();
        assert!(text.contains("forge_queue_depth{service=\"test\",queue=\"jobs\"} 1"), "{text}");
        assert!(text.contains("forge_queue_depth{service=\"test\",queue=\"reduce\"} 0"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn live_agents_are_reported_for_every_target() {
        let bus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        let (metrics, stop) = (Metrics::new("test"), CancellationToken::new());
        let registry = Registry::open(bus.clone(), stop.clone()).await.unwrap();
        let capacity = AgentCapacity::new(&[Arc::new(Scalar)], 1);
        let record = agent_record(&Identity::from_random([1; 32]), Target::Gpu, capacity, 1);
        let job_watch = JobWatch::open(bus.clone(), &[], &stop).await.unwrap();
        registry::register_worker(bus, PoolName::default(), record, stop.clone()).await.unwrap();
        let interval = Duration::from_secs(5);
        tokio::spawn(report_cluster(registry, job_watch, interval, metrics.clone(), stop.clone()));
        sleep(Duration::from_millis(10)).await;
        stop.cancel();
        let text = metrics.encode();
        for (target, agents) in [("any", 1), ("cpu", 0), ("gpu", 1)] {
            let line = format!("forge_live_agents{{service=\"test\",target=\"{target}\"}} {agents}");
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("forge_jobs_waiting{service=\"test\"} 0"), "{text}");
    }
}
