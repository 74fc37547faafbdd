//! Drives one admitted job until it ends: waits for agents, prepares the job and dispatches its
//! shards, all within its deadline. The driver only sequences these steps; each is a submodule. It
//! writes no terminal record: a job that fails here is ended by an aggregator.

mod agent_quorum;
mod deadline;
mod dispatch_failure;
mod dispatch_loop;
mod dispatch_message;
mod dispatch_window;
mod dispatcher;
mod job_preparer;
mod shard_event;
mod starvation;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use forge_service::{
    Metrics, Settlement, job_watch::JobWatch, registry::Registry, retry::retry_until_stopped,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{agent_quorum::wait_for_quorum, deadline::wait_for_deadline, dispatch_failure::DispatchFailure};
pub use self::{dispatch_loop::DispatchLoop, job_preparer::JobPreparer};
use crate::{
    admitted_job::AdmittedJob, end_requester::EndRequester, straggler_purge::STRAGGLER_GRACE_PERIOD,
};

/// Drives jobs.
#[derive(Debug)]
pub struct JobDriver {
    pub registry: Registry,
    pub job_watch: JobWatch,
    pub preparer: JobPreparer,
    pub dispatch_loop: DispatchLoop,
    pub end_requester: EndRequester,
    /// How long a job waits for `policy.min_agents`.
    pub agent_wait: Duration,
    pub metrics: Metrics,
    pub stop: CancellationToken,
}

impl JobDriver {
    /// Drives a job and returns the settlement of its submission: acknowledged once the job has
    /// ended, and retried at once if the service stops, so that another planner takes the job over.
    /// If shards were in flight at the job's end, the submission is retried after a grace period,
    /// so that a planner purges their messages. `received` is when the submission was received.
    pub async fn drive(&self, admitted: AdmittedJob, received: Instant) -> Settlement {
        let job = &admitted.job.id;
        let watched = retry_until_stopped(&self.stop, "watching the job's record", || {
            self.job_watch.watch(&admitted.bucket, job)
        });
        let Some(end) = watched.await else { return Settlement::Retry(Duration::ZERO) };
        let (active, in_flight) = (self.metrics.track_active_job(), AtomicUsize::new(0));
        let failure = tokio::select! {
            () = end.token().cancelled() => None,
            () = self.stop.cancelled() => return Settlement::Retry(Duration::ZERO),
            failure = wait_for_deadline(&admitted) => Some(failure),
            failure = self.dispatch_until_failure(&admitted, received, end.token(), &in_flight) => Some(failure),
        };
        drop(active);
        if let Some(failure) = failure
            && !self.end(&admitted, failure, end.token()).await
        {
            return Settlement::Retry(Duration::ZERO);
        }
        if in_flight.into_inner() > 0 { Settlement::Retry(STRAGGLER_GRACE_PERIOD) } else { Settlement::Ack }
    }

    /// Runs the steps of a job. Returns only when the job has failed; dropped when it has ended.
    /// Stores the number of in-flight shards in `in_flight`.
    async fn dispatch_until_failure(
        &self,
        admitted: &AdmittedJob,
        received: Instant,
        ended: &CancellationToken,
        in_flight: &AtomicUsize,
    ) -> DispatchFailure {
        let planning_time = received.elapsed();
        let live_agents = || self.registry.live_capacity(admitted.target()).agents;
        if let Err(failure) = wait_for_quorum(admitted.policy(), self.agent_wait, live_agents).await {
            return failure;
        }
        let prepared = retry_until_stopped(ended, "preparing the job", || {
            self.preparer.prepare(admitted, planning_time)
        });
        let Some(messages) = prepared.await else { return std::future::pending().await };
        self.dispatch_loop
            .run(admitted, messages, ended, |shards| in_flight.store(shards, Ordering::Relaxed))
            .await
    }

    /// Requests the end of a failed job and waits until its record is terminal. Returns `false` if
    /// the service stops first.
    async fn end(&self, admitted: &AdmittedJob, failure: DispatchFailure, ended: &CancellationToken) -> bool {
        let order = failure.into_order(admitted.job.id.clone(), &admitted.bucket);
        let requested = retry_until_stopped(&self.stop, "requesting the job's end", || {
            self.end_requester.request(order.clone())
        });
        requested.await.is_some() && self.stop.run_until_cancelled(ended.cancelled()).await.is_some()
    }
}
