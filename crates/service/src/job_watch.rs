//! Notification of job ends and of changes of job records, from one watch per bucket of job
//! records, however many jobs are waited for.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use forge_bus::{BucketEntry, BusError, SharedBus, topology::Bucket};
use forge_contract::{ids::JobId, job::JobRecord};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    job_records::{self, MISSING_RECORD_GRACE_PERIOD},
    retry::retry_until_stopped,
};

/// Watches job records and notifies subscribers when they change and when their jobs end. Clones
/// share the watch.
#[derive(Debug, Clone)]
pub struct JobWatch {
    bus: SharedBus,
    subscribers: Arc<Mutex<Subscribers>>,
}

/// A redelivered message is handled while the first delivery still is, so one process can wait for
/// a job twice. Each subscriber therefore has its own token, and removes only that.
#[derive(Debug, Default)]
struct Subscribers {
    next_number: u64,
    by_job: HashMap<(Bucket, JobId), Vec<Subscriber>>,
    /// Jobs whose records say that they wait.
    waiting: HashSet<(Bucket, JobId)>,
}

#[derive(Debug)]
struct Subscriber {
    number: u64,
    token: CancellationToken,
    changed: Arc<Notify>,
}

/// A subscription to the changes and the end of one job; dropping it unsubscribes.
#[derive(Debug)]
pub struct JobEndSignal {
    watch: JobWatch,
    job: (Bucket, JobId),
    number: u64,
    token: CancellationToken,
    /// Cancelled with this signal or before, so that no check outlives it.
    check: CancellationToken,
    changed: Arc<Notify>,
}

impl JobEndSignal {
    /// Returns a token that is cancelled once the job has ended or its record has been removed.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Waits for a change of the job's record since the subscription or the latest call. Several
    /// changes may be reported as one.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for JobEndSignal {
    fn drop(&mut self) {
        self.check.cancel();
        let mut subscribers = self.watch.subscribers.lock();
        if let Some(same_job) = subscribers.by_job.get_mut(&self.job) {
            same_job.retain(|subscriber| subscriber.number != self.number);
            if same_job.is_empty() {
                subscribers.by_job.remove(&self.job);
            }
        }
    }
}

impl JobWatch {
    /// Watches the records in `buckets` until `stop` is cancelled.
    ///
    /// # Errors
    /// Returns any error of opening a watch.
    pub async fn open(
        bus: SharedBus,
        buckets: &[Bucket],
        stop: &CancellationToken,
    ) -> Result<Self, BusError> {
        let watch = Self { bus, subscribers: Arc::default() };
        for bucket in buckets {
            let mut entries = watch.bus.watch(bucket, ">").await?;
            let (watch, bucket, stop) = (watch.clone(), bucket.clone(), stop.clone());
            tokio::spawn(async move {
                while let Some(Some(entry)) = stop.run_until_cancelled(entries.next()).await {
                    watch.notify(&bucket, &entry);
                }
            });
        }
        Ok(watch)
    }

    /// Number of jobs whose records say that they wait, subscribed or not.
    pub fn waiting_jobs(&self) -> usize {
        self.subscribers.lock().waiting.len()
    }

    fn notify(&self, bucket: &Bucket, entry: &BucketEntry) {
        let Ok(job) = entry.key.parse::<JobId>() else { return };
        let job = (bucket.clone(), job);
        let may_wait = entry.value.as_ref().is_some_and(|value| has_member(value, b"\"waiting\""));
        let mut subscribers = self.subscribers.lock();
        if !may_wait {
            subscribers.waiting.remove(&job);
        }
        if !may_wait && !subscribers.by_job.contains_key(&job) {
            return;
        }
        let record = entry.value.as_ref().and_then(|value| serde_json::from_slice::<JobRecord>(value).ok());
        let is_waiting =
            record.as_ref().is_some_and(|record| record.waiting.is_some() && !record.state.is_terminal());
        let has_ended = record.is_none_or(|record| record.state.is_terminal());
        if is_waiting {
            subscribers.waiting.insert(job.clone());
        } else {
            subscribers.waiting.remove(&job);
        }
        for subscriber in subscribers.by_job.get(&job).into_iter().flatten() {
            subscriber.changed.notify_one();
            if has_ended {
                subscriber.token.cancel();
            }
        }
    }

    /// Subscribes to the end of a job. The signal is already set if the job has ended or has no
    /// record.
    ///
    /// # Errors
    /// Returns any error of [`job_records::get`].
    pub async fn watch(&self, bucket: &Bucket, job: &JobId) -> Result<JobEndSignal, BusError> {
        let signal = self.subscribe(bucket, job);
        // The job may have ended before the subscription, in which case no further change will
        // arrive.
        match job_records::get(self.bus.as_ref(), bucket, job).await? {
            Some(versioned) if versioned.record.state.is_terminal() => signal.token.cancel(),
            _ => self.spawn_check(&signal),
        }
        Ok(signal)
    }

    /// Reads the record again after the grace period, because the first answer may have come from a
    /// deposed leader: it may have missed the job's end, of which no change arrives any more, or a
    /// record that was just created. Sets the signal if the job has ended, or if there is no
    /// record: no change arrives for one that was removed before the subscription. An earlier read
    /// could come from the same deposed leader, so it would decide nothing.
    fn spawn_check(&self, signal: &JobEndSignal) {
        let (bus, token, (bucket, job)) = (self.bus.clone(), signal.token.clone(), signal.job.clone());
        let check = signal.check.clone();
        tokio::spawn(async move {
            if check.run_until_cancelled(sleep(MISSING_RECORD_GRACE_PERIOD)).await.is_none() {
                return;
            }
            let read = retry_until_stopped(&check, "reading the job's record", || {
                job_records::get(bus.as_ref(), &bucket, &job)
            });
            if let Some(versioned) = read.await
                && versioned.is_none_or(|versioned| versioned.record.state.is_terminal())
            {
                token.cancel();
            }
        });
    }

    /// Subscribes to changes of a job's record from now on, whether or not it exists yet. Unlike
    /// [`JobWatch::watch`], reads nothing, so the signal is not set for a job that has ended
    /// before.
    pub fn subscribe(&self, bucket: &Bucket, job: &JobId) -> JobEndSignal {
        let (job, token) = ((bucket.clone(), job.clone()), CancellationToken::new());
        let changed = Arc::new(Notify::new());
        let mut subscribers = self.subscribers.lock();
        let number = subscribers.next_number;
        subscribers.next_number += 1;
        let subscriber = Subscriber { number, token: token.clone(), changed: Arc::clone(&changed) };
        subscribers.by_job.entry(job.clone()).or_default().push(subscriber);
        let check = token.child_token();
        JobEndSignal { watch: self.clone(), job, number, token, check, changed }
    }
}

/// Whether a JSON document may have this member: parsing every record takes longer.
fn has_member(json: &[u8], quoted_name: &[u8]) -> bool {
    json.windows(quoted_name.len()).any(|window| window == quoted_name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::sync::atomic::{AtomicUsize, Ordering};

    use forge_bus::{
        Bus, MemoryBus,
        testing::{BusFault, BusOperation, FaultyBus},
        topology::TopologySettings,
    };
    use forge_contract::job::JobState;
    use serde_json::json;

    use super::*;
    use crate::clock::Clock;

    fn running_record() -> JobRecord {
        let record = json!({"schema": JobRecord::SCHEMA, "job_id": "j", "uid": "0".repeat(32), "state": "running", "persist": true,
            "submission": 1, "submitted_at": "2026-11-23T04:21:23.123Z", "updated_at": "2026-11-23T04:21:23.123Z",
            "billing": {"mode": "test", "reason": "api"}, "progress": {"iterations": 0, "iterations_done": 0,
            "shards": 0, "shards_done": 0, "shards_verified": 0}});
        serde_json::from_value(record).unwrap()
    }

    #[tokio::test]
    async fn a_dropped_subscriber_leaves_the_others_subscribed() {
        let bus: SharedBus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        let (bucket, job, stop) = (Bucket::default_jobs(), "j".parse().unwrap(), CancellationToken::new());
        job_records::create(bus.as_ref(), &bucket, &running_record()).await.unwrap();
        let watch = JobWatch::open(bus.clone(), std::slice::from_ref(&bucket), &stop).await.unwrap();
        let first = watch.watch(&bucket, &job).await.unwrap();
        let second = watch.watch(&bucket, &job).await.unwrap();
        drop(first);
        assert!(!second.token().is_cancelled());
        job_records::update(bus.as_ref(), Clock::default(), &bucket, &job, |record| {
            record.state = JobState::Cancelled;
            true
        })
        .await
        .unwrap();
        tokio::time::timeout(Duration::from_secs(10), second.token().cancelled()).await.unwrap();
        assert!(watch.watch(&bucket, &job).await.unwrap().token().is_cancelled());
        drop(second);
        assert!(watch.subscribers.lock().by_job.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_jobs_are_counted_until_they_go_on_end_or_are_removed() {
        let bus: SharedBus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        let (bucket, stop) = (Bucket::default_jobs(), CancellationToken::new());
        let mut record = running_record();
        record.waiting = Some("no worker".to_owned());
        job_records::create(bus.as_ref(), &bucket, &record).await.unwrap();
        let watch = JobWatch::open(bus.clone(), std::slice::from_ref(&bucket), &stop).await.unwrap();
        let put = async |job: &str, waiting: Option<&str>, state| {
            let waiting = waiting.map(str::to_owned);
            let record = JobRecord { job_id: job.parse().unwrap(), waiting, state, ..running_record() };
            bus.put(&bucket, job, serde_json::to_vec(&record).unwrap().into()).await.unwrap();
            sleep(Duration::from_millis(10)).await;
            watch.waiting_jobs()
        };
        let (running, cancelled) = (JobState::Running, JobState::Cancelled);
        assert_eq!(put("other", None, running).await, 1);
        assert_eq!(put("other", Some("no verifier"), running).await, 2);
        assert_eq!(put("other", Some("no worker"), running).await, 2);
        assert_eq!(put("other", None, running).await, 1);
        assert_eq!(put("j", Some("no worker"), cancelled).await, 0);
        assert_eq!(put("j", Some("no worker"), running).await, 1);
        bus.delete(&bucket, "j").await.unwrap();
        sleep(Duration::from_millis(10)).await;
        assert_eq!(watch.waiting_jobs(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_check_outlives_its_signal() {
        let inner = MemoryBus::new(TopologySettings::default());
        inner.prepare().await.unwrap();
        let (bucket, job, reads) =
            (Bucket::default_jobs(), "j".parse().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&reads);
        // No read succeeds after the first one, so a check would go on for ever.
        let bus: SharedBus = Arc::new(FaultyBus::new(inner.clone(), move |operation| match operation {
            BusOperation::Get { .. } if counted.fetch_add(1, Ordering::Relaxed) > 0 => {
                BusFault::Error(BusError::Unavailable("no server".to_owned()))
            }
            _ => BusFault::None,
        }));
        job_records::create(bus.as_ref(), &bucket, &running_record()).await.unwrap();
        let watch = JobWatch::open(bus, &[], &CancellationToken::new()).await.unwrap();
        let signal = watch.watch(&bucket, &job).await.unwrap();
        let token = signal.token().clone();
        sleep(2 * MISSING_RECORD_GRACE_PERIOD).await;
        drop(signal);
        let reads_before = reads.load(Ordering::Relaxed);
        assert!(reads_before > 2, "the check reads the record");
        sleep(2 * MISSING_RECORD_GRACE_PERIOD).await;
        assert_eq!(reads.load(Ordering::Relaxed), reads_before);
        assert!(!token.is_cancelled(), "the job has not ended");
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_reported_from_the_creation_of_the_record_on() {
        let bus: SharedBus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        let (bucket, job, stop) = (Bucket::default_jobs(), "j".parse().unwrap(), CancellationToken::new());
        let watch = JobWatch::open(bus.clone(), std::slice::from_ref(&bucket), &stop).await.unwrap();
        let signal = watch.subscribe(&bucket, &job);
        assert!(tokio::time::timeout(Duration::from_secs(1), signal.changed()).await.is_err());
        job_records::create(bus.as_ref(), &bucket, &running_record()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(1), signal.changed()).await.unwrap();
        assert!(!signal.token().is_cancelled());
        let cancel = |record: &mut JobRecord| {
            record.state = JobState::Cancelled;
            true
        };
        job_records::update(bus.as_ref(), Clock::default(), &bucket, &job, cancel).await.unwrap();
        tokio::time::timeout(Duration::from_secs(1), signal.changed()).await.unwrap();
        assert!(signal.token().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn missing_record_ends_a_job_only_after_the_grace_period() {
        let bus: SharedBus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        let (bucket, stop) = (Bucket::default_jobs(), CancellationToken::new());
        let watch = JobWatch::open(bus.clone(), std::slice::from_ref(&bucket), &stop).await.unwrap();
        let late = watch.watch(&bucket, &"late".parse().unwrap()).await.unwrap();
        let removed = watch.watch(&bucket, &"removed".parse().unwrap()).await.unwrap();
        assert!(!late.token().is_cancelled() && !removed.token().is_cancelled());
        let mut record = running_record();
        record.job_id = "late".parse().unwrap();
        job_records::create(bus.as_ref(), &bucket, &record).await.unwrap();
        sleep(2 * MISSING_RECORD_GRACE_PERIOD).await;
        assert!(removed.token().is_cancelled(), "a record that stays missing was removed");
        assert!(!late.token().is_cancelled(), "a record that appears is a job's");
    }

    /// A deposed leader answered the first read, and the change came before the subscription. Its
    /// answer was an earlier record, or none at all.
    #[tokio::test(start_paused = true)]
    async fn end_that_the_first_read_missed_is_found_after_the_grace_period() {
        for first_answer in [Some(running_record()), None] {
            let bus: SharedBus = MemoryBus::new(TopologySettings::default());
            bus.prepare().await.unwrap();
            let (bucket, job, stop) =
                (Bucket::default_jobs(), "j".parse().unwrap(), CancellationToken::new());
            if let Some(record) = &first_answer {
                job_records::create(bus.as_ref(), &bucket, record).await.unwrap();
            }
            // It watches no bucket, so no change arrives.
            let watch = JobWatch::open(bus.clone(), &[], &stop).await.unwrap();
            let signal = watch.watch(&bucket, &job).await.unwrap();
            for state in [JobState::Running, JobState::Cancelled] {
                let record = JobRecord { state, ..running_record() };
                bus.put(&bucket, "j", serde_json::to_vec(&record).unwrap().into()).await.unwrap();
                sleep(MISSING_RECORD_GRACE_PERIOD / 4).await;
                assert!(!signal.token().is_cancelled());
            }
            sleep(MISSING_RECORD_GRACE_PERIOD).await;
            assert!(signal.token().is_cancelled(), "{first_answer:?}");
        }
    }
}
