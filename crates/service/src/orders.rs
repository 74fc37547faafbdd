//! Orders to aggregators, as messages.

use forge_bus::{Message, topology};
use forge_contract::task::{AggregatorOrder, EndOrder, ReduceOrder};

use crate::telemetry::trace;

/// The message that has a job taken in, and the id that deduplicates it.
pub fn build_reduce(order: ReduceOrder) -> (Message, String) {
    let (subject, id) = (topology::reduce_subject(&order.job_id), format!("reduce.{}", order.job_id));
    (message(subject, &AggregatorOrder::Reduce(Box::new(order))), id)
}

/// The message that has a job ended without a result, and the id that deduplicates it.
pub fn build_end(order: EndOrder) -> (Message, String) {
    let (subject, id) =
        (topology::end_subject(&order.job_id), format!("end.{}.{}", order.job_id, order.code));
    (message(subject, &AggregatorOrder::End(order)), id)
}

fn message(subject: String, order: &AggregatorOrder) -> Message {
    let payload = serde_json::to_vec(order).expect("an order is made of strings, numbers and lists");
    let mut message = Message::new(subject, payload);
    trace::inject_context(&mut message.headers);
    message
}
