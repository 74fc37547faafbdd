//! An independent bus client that observes every job record and the queues. It asserts invariants
//! of the services from outside: one terminal record per job, and nothing left on the bus.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use forge_bus::{
    SharedBus,
    jetstream::{JetStreamBus, JetStreamOptions},
    topology::{Bucket, Queue, Stream},
};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::{Cluster, WAIT_LIMIT, is_terminal};

/// Longest time between the end of a job and what the observer asserts of it.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// Revision and state of each version of a record, by job id.
type RecordHistory = Arc<Mutex<BTreeMap<String, Vec<(u64, String)>>>>;

/// Watches the job records of a cluster.
pub struct BusObserver {
    runtime: Runtime,
    pub bus: SharedBus,
    history: RecordHistory,
}

impl BusObserver {
    /// Connects, and waits until a service has created the bucket of job records.
    pub fn connect(cluster: &Cluster) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let options = JetStreamOptions {
            urls: cluster.nats_urls(),
            manage_topology: false,
            ..JetStreamOptions::new("")
        };
        let bus: SharedBus = runtime.block_on(JetStreamBus::connect(options)).unwrap();
        let history = RecordHistory::default();
        let mut changes = runtime.block_on(async {
            loop {
                match bus.watch(&Bucket::default_jobs(), ">").await {
                    Ok(changes) => return changes,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        let recorded = Arc::clone(&history);
        runtime.spawn(async move {
            while let Some(entry) = changes.next().await {
                let record: Value =
                    serde_json::from_slice(&entry.value.unwrap_or_default()).unwrap_or_default();
                let state = record["state"].as_str().unwrap_or("removed").to_owned();
                recorded.lock().unwrap().entry(entry.key).or_default().push((entry.revision, state));
            }
        });
        Self { runtime, bus, history }
    }

    /// Asserts that the job's record became terminal and was not written afterwards.
    #[track_caller]
    pub fn assert_ended_once(&self, job: &str) {
        let states = || self.history.lock().unwrap().get(job).cloned().unwrap_or_default();
        let started = Instant::now();
        while !states().iter().any(|(_, state)| is_terminal(state)) {
            assert!(started.elapsed() < SETTLE_LIMIT, "{job}: no terminal record observed: {:?}", states());
            thread::sleep(Duration::from_millis(20));
        }
        let states = states();
        let first_terminal = states.iter().position(|(_, state)| is_terminal(state)).unwrap();
        assert_eq!(first_terminal + 1, states.len(), "{job}: written after its end: {states:?}");
    }

    /// Asserts that every queue becomes empty, and that no result, verdict or outcome of any job
    /// remains.
    /// Dead letters do not count.
    #[track_caller]
    pub fn assert_drained(&self) {
        self.assert_drained_within(SETTLE_LIMIT);
    }

    /// Asserts the same of results of invented jobs, and of those of workers that were cut off for
    /// longer than the planner's grace period: an aggregator's janitor removes them, in its second
    /// pass. It makes one every 30 seconds.
    #[track_caller]
    pub fn assert_drained_by_janitor(&self) {
        self.assert_drained_within(WAIT_LIMIT);
    }

    #[track_caller]
    fn assert_drained_within(&self, limit: Duration) {
        let started = Instant::now();
        loop {
            let remaining = self.runtime.block_on(self.remaining_messages());
            if remaining.is_empty() {
                return;
            }
            assert!(started.elapsed() < limit, "left on the bus: {remaining:?}");
            thread::sleep(Duration::from_millis(200));
        }
    }

    async fn remaining_messages(&self) -> Vec<String> {
        let mut remaining = Vec::new();
        for queue in Queue::ALL.into_iter().filter(|queue| *queue != Queue::DeadLetters) {
            let count = self.bus.backlog(queue).await.unwrap_or(u64::MAX);
            if count > 0 {
                remaining.push(format!("{queue:?}: {count}"));
            }
        }
        for stream in [Stream::Results, Stream::Verdicts] {
            let subjects = stream.subjects().iter().map(|&subject| subject.to_owned()).collect();
            let mut replay = self.bus.replay(stream, subjects).await.unwrap();
            while let Some(stored) = replay.next_stored().await {
                remaining.push(stored.message.subject);
            }
        }
        remaining
    }

    /// Runs a future to completion on the observer's runtime.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Runs a future in the background until the observer is dropped.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }
}
