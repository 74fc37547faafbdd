//! Requests the early end of a job. Only aggregators write terminal records, so the planner
//! publishes an order to them instead.

use forge_bus::{BusError, SharedBus};
use forge_contract::task::EndOrder;
use forge_service::orders;

/// Publishes [`EndOrder`]s.
#[derive(Debug, Clone)]
pub struct EndRequester {
    bus: SharedBus,
}

impl EndRequester {
    pub fn new(bus: SharedBus) -> Self {
        Self { bus }
    }

    /// Requests termination of a job that will produce no result. Returns once the order is
    /// durable; the record becomes terminal later. Repeating a request is harmless: the bus drops
    /// the second order, and ending a terminal job does nothing.
    ///
    /// # Errors
    /// Returns any error from publishing the order.
    pub async fn request(&self, order: EndOrder) -> Result<(), BusError> {
        tracing::info!(
            job_id = %order.job_id,
            job_uid = %order.job_uid,
            code = %order.code,
            message = order.message,
            "requesting the job's end"
        );
        let (message, id) = orders::build_end(order);
        self.bus.publish(message, &id).await
    }
}
