//! Orders to aggregators, as bus messages. Each function returns the message and the id by which
//! the bus deduplicates it.

use forge_bus::{Message, topology};
use forge_contract::task::{AggregatorOrder, EndOrder, ReduceOrder};

use crate::telemetry::trace;

/// Builds the order to reduce a job's results.
pub fn build_reduce(order: ReduceOrder) -> (Message, String) {
    let (subject, id) = (topology::reduce_subject(order.job_uid), format!("reduce.{}", order.job_uid));
    (message(subject, &AggregatorOrder::Reduce(Box::new(order))), id)
}

/// Builds the order to end a job that will produce no result.
pub fn build_end(order: EndOrder) -> (Message, String) {
    let (subject, id) =
        (topology::end_subject(order.job_uid), format!("end.{}.{}", order.job_uid, order.code));
    (message(subject, &AggregatorOrder::End(order)), id)
}

fn message(subject: String, order: &AggregatorOrder) -> Message {
    let payload = serde_json::to_vec(order).expect("an order consists of strings, numbers and lists");
    let mut message = Message::new(subject, payload);
    trace::inject_context(&mut message.headers);
    message
}
