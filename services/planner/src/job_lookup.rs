//! Finds job records: by id alone, whichever namespace holds it, and in pages of bounded size.

use forge_bus::{BusError, SharedBus, topology::Bucket};
use forge_contract::{
    ids::JobId,
    job::JobRecord,
    job_list::{JobListPage, JobListRequest},
};
use forge_service::job_records;
use futures_util::{FutureExt, StreamExt, stream};

/// Records that one list request reads concurrently.
const CONCURRENT_RECORD_READS: usize = 32;

/// Looks job records up in every namespace of this installation.
#[derive(Debug, Clone)]
pub struct JobLookup {
    bus: SharedBus,
    namespaces: Vec<String>,
}

impl JobLookup {
    pub fn new(bus: SharedBus, namespaces: Vec<String>) -> Self {
        Self { bus, namespaces }
    }

    /// The record of a job and its bucket. If several namespaces hold the id, the first in the
    /// order of the settings wins.
    ///
    /// # Errors
    /// Returns any error from reading a record.
    pub async fn find(&self, job: &JobId) -> Result<Option<(Bucket, JobRecord)>, BusError> {
        for namespace in &self.namespaces {
            let bucket = Bucket::Jobs(namespace.clone());
            if let Some(found) = job_records::get(self.bus.as_ref(), &bucket, job).await? {
                return Ok(Some((bucket, found.record)));
            }
        }
        Ok(None)
    }

    /// The bucket that a list request names; `None` if this installation has no such namespace.
    pub fn listed_bucket(&self, request: &JobListRequest) -> Option<Bucket> {
        let namespace = match &request.namespace {
            Some(name) => self.namespaces.iter().find(|namespace| *namespace == name),
            None => self.namespaces.first(),
        };
        namespace.cloned().map(Bucket::Jobs)
    }

    /// One page of the records of a bucket. Examines at most [`JobListRequest::MAX_LIMIT`] records
    /// and returns at most `max_bytes` of JSON, but at least one record if one was selected. A
    /// record that cannot be read is skipped.
    ///
    /// # Errors
    /// Returns any error from reading the bucket.
    pub async fn list(
        &self,
        bucket: &Bucket,
        request: &JobListRequest,
        max_bytes: usize,
    ) -> Result<JobListPage, BusError> {
        let limit = request.limit.unwrap_or(JobListRequest::MAX_LIMIT).min(JobListRequest::MAX_LIMIT);
        let ids = self.select_ids(bucket, request).await?;
        let read = |job: JobId| {
            let (bus, bucket) = (self.bus.clone(), bucket.clone());
            async move {
                let read = job_records::get(bus.as_ref(), &bucket, &job).await;
                (job, read)
            }
            .boxed()
        };
        let reads: Vec<_> = ids.iter().take(JobListRequest::MAX_LIMIT).cloned().map(read).collect();
        let mut reads = stream::iter(reads).buffered(CONCURRENT_RECORD_READS);
        let (mut jobs, mut bytes, mut last) = (Vec::new(), 0, None);
        while jobs.len() < limit
            && let Some((job, read)) = reads.next().await
        {
            let record = match read {
                Ok(found) => found.map(|found| found.record),
                Err(error @ BusError::Corrupt(_)) => {
                    tracing::warn!(%job, %error, "listing jobs: skipping an unreadable record");
                    None
                }
                Err(error) => return Err(error),
            };
            if let Some(record) = record
                && request.state.is_none_or(|state| state == record.state)
            {
                bytes += serde_json::to_vec(&record).map_or(0, |json| json.len());
                if bytes > max_bytes && !jobs.is_empty() {
                    break;
                }
                jobs.push(record);
            }
            last = Some(job);
        }
        let next = last.filter(|last| Some(last) != ids.last());
        Ok(JobListPage { schema: JobListPage::SCHEMA.to_owned(), jobs, next })
    }

    /// The ids that follow `after` and start with the prefix, sorted.
    async fn select_ids(&self, bucket: &Bucket, request: &JobListRequest) -> Result<Vec<JobId>, BusError> {
        let keys = self.bus.keys(bucket).await?;
        let is_selected = |job: &JobId| {
            job.as_str().starts_with(&request.prefix)
                && request.after.as_ref().is_none_or(|after| job > after)
        };
        let mut ids: Vec<JobId> =
            keys.into_iter().filter_map(|key| key.parse().ok()).filter(is_selected).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use forge_contract::{ids::JobUid, job::JobState};

    use super::*;
    use crate::{
        submission_record::{SubmissionOrigin, initial_record},
        test_fixture::{alice, memory_bus},
    };

    fn record(job: &str, state: JobState) -> JobRecord {
        let time = "2026-11-23T04:21:23.123Z".to_owned();
        let origin = SubmissionOrigin { submitter: alice(), sequence: 1, attempt: 1, time, trace_id: None };
        JobRecord { state, ..initial_record(job.parse().unwrap(), JobUid([1; 16]), origin, None) }
    }

    /// A lookup on a bucket with these jobs, of which those at odd positions have failed.
    async fn lookup(jobs: &[&str]) -> (JobLookup, Bucket) {
        let (bus, bucket) = (memory_bus().await, Bucket::default_jobs());
        for (number, job) in jobs.iter().enumerate() {
            let state = if number % 2 == 1 { JobState::Failed } else { JobState::Running };
            assert!(job_records::create(bus.as_ref(), &bucket, &record(job, state)).await.unwrap());
        }
        (JobLookup::new(bus, vec!["jobs".to_owned()]), bucket)
    }

    fn ids(page: &JobListPage) -> Vec<&str> {
        page.jobs.iter().map(|record| record.job_id.as_str()).collect()
    }

    #[tokio::test]
    async fn pages_follow_each_other_in_the_order_of_job_ids() {
        let (jobs, bucket) = lookup(&["c", "a2", "b", "a1"]).await;
        let mut request = JobListRequest { limit: Some(3), ..JobListRequest::default() };
        let page = jobs.list(&bucket, &request, usize::MAX).await.unwrap();
        assert_eq!((ids(&page), page.next.as_ref().unwrap().as_str()), (vec!["a1", "a2", "b"], "b"));
        request.after = page.next;
        let page = jobs.list(&bucket, &request, usize::MAX).await.unwrap();
        assert_eq!((ids(&page), &page.next), (vec!["c"], &None));
        request = JobListRequest { prefix: "a".to_owned(), ..JobListRequest::default() };
        assert_eq!(ids(&jobs.list(&bucket, &request, usize::MAX).await.unwrap()), ["a1", "a2"]);
        request.state = Some(JobState::Running);
        assert!(jobs.list(&bucket, &request, usize::MAX).await.unwrap().jobs.is_empty());
    }

    #[tokio::test]
    async fn page_is_bounded_by_bytes_but_never_empty_because_of_them() {
        let (jobs, bucket) = lookup(&["a", "b"]).await;
        let request = JobListRequest::default();
        let page = jobs.list(&bucket, &request, 1).await.unwrap();
        assert_eq!((ids(&page), page.next.as_ref().unwrap().as_str()), (vec!["a"], "a"));
    }

    #[tokio::test]
    async fn unreadable_record_is_skipped() {
        let (jobs, bucket) = lookup(&["a", "b"]).await;
        jobs.bus.put(&bucket, "a", "{".into()).await.unwrap();
        let page = jobs.list(&bucket, &JobListRequest::default(), usize::MAX).await.unwrap();
        assert_eq!((ids(&page), &page.next), (vec!["b"], &None));
    }

    #[tokio::test]
    async fn only_namespaces_of_the_installation_are_listed() {
        let (jobs, bucket) = lookup(&[]).await;
        let request = |namespace: Option<&str>| JobListRequest {
            namespace: namespace.map(str::to_owned),
            ..JobListRequest::default()
        };
        assert_eq!(jobs.listed_bucket(&request(None)), Some(bucket.clone()));
        assert_eq!(jobs.listed_bucket(&request(Some("jobs"))), Some(bucket));
        assert_eq!(jobs.listed_bucket(&request(Some("forge_secrets"))), None);
    }
}
