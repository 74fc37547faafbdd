//! Purging work queues, message by message.
//!
//! A purge by subject makes the server (2.15.1) treat messages of other subjects that receivers
//! hold as acknowledged: it never delivers them again
//! (<https://github.com/nats-io/nats-server/issues/5727>). The removal of one message only ends its
//! own delivery, as an acknowledgement does.

use futures_util::{StreamExt, TryStreamExt, stream::iter};

use super::{
    attempt::{AttemptFailure, retry_transient},
    connection::NatsConnection,
    raw_message::{self, MessageQuery},
    subjects::subject_page,
};
use crate::{bus::SubjectPage, error::BusError};

/// Subjects whose messages are removed at the same time. The server takes at most 10,000 requests
/// of all clients at once, and drops further ones.
const CONCURRENT_SUBJECTS: usize = 64;

/// Removes the messages that match a filter, and are stored when this begins, from a work queue.
pub(super) async fn purge(connection: &NatsConnection, stream: &str, filter: &str) -> Result<(), BusError> {
    loop {
        let SubjectPage { counts, total } = subject_page(connection, stream, filter, 0).await?;
        let is_last = counts.len() >= total;
        let removals =
            counts.iter().map(|(subject, count)| purge_subject(connection, stream, subject, *count));
        iter(removals.collect::<Vec<_>>()).buffer_unordered(CONCURRENT_SUBJECTS).try_collect::<()>().await?;
        if is_last {
            return Ok(());
        }
    }
}

/// Removes up to `count` messages of one subject.
async fn purge_subject(
    connection: &NatsConnection,
    stream: &str,
    subject: &str,
    count: u64,
) -> Result<(), BusError> {
    for _ in 0..count {
        let remove_latest = async || {
            let query = MessageQuery::Last { subject };
            let Some(message) = raw_message::load(connection, stream, query).await? else {
                return Ok::<_, AttemptFailure>(());
            };
            raw_message::remove(connection, stream, message.sequence).await
        };
        retry_transient(stream, remove_latest).await?;
    }
    Ok(())
}
