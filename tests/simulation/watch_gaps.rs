//! A watch whose connection is lost and resumed: what has changed meanwhile arrives late, and of
//! each key only the latest change, because a bucket keeps no other.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use forge_bus::BucketEntry;
use futures_util::{
    FutureExt,
    stream::{BoxStream, StreamExt, unfold},
};
use tokio::{task::unconstrained, time::sleep};

use crate::process::Process;

/// Upper bound of the time for which a watch is interrupted.
const MAX_GAP: Duration = Duration::from_secs(30);

/// The entries of a watch of this process.
pub fn with_gaps(
    process: &Arc<Process>,
    entries: BoxStream<'static, BucketEntry>,
) -> BoxStream<'static, BucketEntry> {
    let state = (Arc::clone(process), entries, VecDeque::new());
    let next = |(process, mut entries, mut resumed): (_, BoxStream<'static, BucketEntry>, VecDeque<_>)| async move {
        if let Some(entry) = resumed.pop_front() {
            return Some((entry, (process, entries, resumed)));
        }
        let entry = entries.next().await?;
        resumed = after_gap(&process, &mut entries, entry).await;
        let first = resumed.pop_front()?;
        Some((first, (process, entries, resumed)))
    };
    unfold(state, next).boxed()
}

/// The entries that arrive now: `entry`, or after a gap that and all that have followed.
async fn after_gap(
    process: &Arc<Process>,
    entries: &mut BoxStream<'static, BucketEntry>,
    entry: BucketEntry,
) -> VecDeque<BucketEntry> {
    let world = &process.world;
    if !world.happens(world.options.faults.watch_gap) {
        return VecDeque::from([entry]);
    }
    let time = world.up_to(MAX_GAP);
    world.record(&process.name, format_args!("a watch is interrupted for {time:?}"));
    sleep(time).await;
    let mut latest = BTreeMap::from([(entry.key.clone(), entry)]);
    // Within its budget for cooperation, tokio reports a channel as empty after 128 items.
    while let Some(Some(entry)) = unconstrained(entries.next()).now_or_never() {
        latest.insert(entry.key.clone(), entry);
    }
    let mut entries: Vec<_> = latest.into_values().collect();
    entries.sort_by_key(|entry| entry.revision);
    entries.into()
}
