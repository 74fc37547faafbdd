//! Queues as one process sees them: deliveries, acks and renewals may get lost.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use forge_bus::{
    BusError, Delivery, DeliveryLease, QueueReceiver,
    topology::{Queue, Stream},
};

use crate::{process::Process, process_bus::describe};

/// A receiver of one process.
pub struct ProcessReceiver {
    pub process: Arc<Process>,
    pub inner: Box<dyn QueueReceiver>,
    pub queue: Queue,
}

#[async_trait]
impl QueueReceiver for ProcessReceiver {
    async fn fetch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        let process = &self.process;
        let operation = format!("fetch {}", self.queue.label());
        process.request(&operation, process.world.options.faults.unavailable).await?;
        process.reach_bus(Some(self.queue.stream().name()), &operation)?;
        let fetched = process.death.run_until_cancelled(self.inner.fetch(max)).await;
        let Some(deliveries) = fetched else { return std::future::pending().await };
        let deliveries = deliveries?;
        for delivery in &deliveries {
            let (sequence, attempt) = (delivery.sequence, delivery.attempt);
            let message = describe(&delivery.message);
            process.world.record(&process.name, format_args!("receives {sequence}.{attempt} {message}"));
        }
        // Deliveries that get lost come again after their lease.
        process.answer(&operation, process.world.options.faults.lost_answer).await?;
        let wrap = |delivery: Delivery| {
            let Delivery { message, sequence, attempt, lease } = delivery;
            let subject = message.subject.clone();
            let lease = ProcessLease { process: Arc::clone(process), inner: lease, subject };
            Delivery { message, sequence, attempt, lease: Arc::new(lease) }
        };
        Ok(deliveries.into_iter().map(wrap).collect())
    }

    /// None: what a dropped [`Self::fetch`] had fetched comes again after its lease.
    fn take_arrived(&mut self) -> Vec<Delivery> {
        Vec::new()
    }
}

/// A lease of one process.
#[derive(Clone)]
struct ProcessLease {
    process: Arc<Process>,
    inner: Arc<dyn DeliveryLease>,
    subject: String,
}

impl fmt::Debug for ProcessLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcessLease({})", self.subject)
    }
}

impl ProcessLease {
    /// Whether a settlement reaches the server.
    async fn arrives(&self, settlement: &str) -> bool {
        let operation = format!("{settlement} {}", self.subject);
        let loss = self.process.world.options.faults.lost_settlement;
        let arrives = self.process.request(&operation, loss).await.is_ok()
            && self
                .process
                .reach_bus(Stream::for_subject(&self.subject).map(Stream::name), &operation)
                .is_ok();
        if arrives {
            self.process.world.record(&self.process.name, operation);
        }
        arrives
    }
}

#[async_trait]
impl DeliveryLease for ProcessLease {
    async fn ack(&self) {
        if self.arrives("ack").await {
            self.inner.ack().await;
        }
    }

    async fn retry(&self, delay: Duration) {
        if self.arrives("retry").await {
            self.inner.retry(delay).await;
        }
    }

    async fn renew(&self) {
        if self.arrives("renew").await {
            self.inner.renew().await;
        }
    }
}
