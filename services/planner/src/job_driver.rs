//! Drives one admitted job until it ends: prepares it and dispatches its shards, within its
//! deadline. A job that waits for agents is not driven: its submission goes back to the bus, so
//! that it holds no slot. The driver only sequences these steps; each is a submodule. It writes no
//! terminal record: a job that fails here is ended by an aggregator.

mod deadline;
mod dispatch_failure;
mod dispatch_loop;
mod dispatch_message;
mod dispatch_window;
mod dispatcher;
mod job_preparer;
mod queue_watch;
mod space_watch;
mod start_decision;
mod starvation;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use forge_bus::{BusError, SharedBus, topology::target_token};
use forge_contract::error::FailureCode;
use forge_service::{
    Metrics, Settlement, clock::Clock, job_records, job_watch::JobWatch, registry::Registry,
    retry::retry_transient,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    deadline::wait_for_deadline,
    dispatch_failure::DispatchFailure,
    dispatch_loop::DispatchStop,
    start_decision::{StartDecision, decide_start, describe_wait, needed_agents, retry_delay, should_warn},
};
pub use self::{
    dispatch_loop::DispatchLoop, job_preparer::JobPreparer, queue_watch::QueueWatch, space_watch::SpaceWatch,
};
use crate::{
    admitted_job::AdmittedJob,
    end_requester::EndRequester,
    settlement::{retry_later, to_settlement},
    straggler_purge::STRAGGLER_GRACE_PERIOD,
};

/// Drives jobs.
#[derive(Debug)]
pub struct JobDriver {
    pub bus: SharedBus,
    pub clock: Clock,
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
    /// ended, retried after a delay while the job waits for agents, retried with backoff while the
    /// bus refuses an operation, and retried at once if the service stops, so that another planner
    /// takes the job over. If the job may have left messages
    /// at its end, the submission is retried after a grace period, so that a planner purges them.
    /// `received` is when the submission was received.
    pub async fn drive(&self, admitted: AdmittedJob, received: Instant) -> Settlement {
        let waited = self.clock.elapsed_since(&admitted.record.submitted_at);
        let live = self.registry.live_capacity(admitted.target()).agents;
        let (policy, target, state) = (admitted.policy(), admitted.target(), admitted.record.state);
        match decide_start(policy, target, state, live, waited, self.agent_wait) {
            StartDecision::Start => self.run(admitted, received).await,
            StartDecision::Wait(delay) => {
                self.note_wait(&admitted, needed_agents(admitted.policy(), admitted.record.state)).await;
                if should_warn(waited) {
                    let hardware = target_token(admitted.target());
                    tracing::warn!(
                        hardware,
                        live,
                        min_agents = admitted.policy().min_agents,
                        "too few live agents accept the job's shards; the job waits for more"
                    );
                }
                Settlement::Retry(delay)
            }
            StartDecision::Fail(failure) => {
                let failure = match &admitted.record.waiting {
                    Some(reason) => failure.while_waiting(reason),
                    None => failure,
                };
                let order = failure.into_order(admitted.job.id.clone(), admitted.uid(), &admitted.bucket);
                to_settlement("requesting the job's end", self.end_requester.request(order).await)
            }
        }
    }

    /// Records that the job waits for this number of live agents.
    async fn note_wait(&self, admitted: &AdmittedJob, needed: u32) {
        let live = self.registry.live_capacity(admitted.target()).agents;
        let quarantine = self.registry.describe_quarantine();
        let reason = describe_wait(admitted.target(), needed, live, quarantine.as_deref());
        self.note_waiting(admitted, Some(&reason)).await;
    }

    async fn note_waiting(&self, admitted: &AdmittedJob, reason: Option<&str>) {
        let AdmittedJob { job, bucket, .. } = admitted;
        job_records::note_waiting(self.bus.as_ref(), self.clock, bucket, (&job.id, admitted.uid()), reason)
            .await;
    }

    /// Runs the steps of a job that may start.
    async fn run(&self, admitted: AdmittedJob, received: Instant) -> Settlement {
        let watched = retry_transient(&self.stop, "watching the job's record", || {
            self.job_watch.watch(&admitted.bucket, &admitted.job.id)
        });
        let end_signal = match watched.await {
            Some(Ok(signal)) => signal,
            Some(Err(error)) => return retry_later("watching the job's record", &error),
            None => return Settlement::Retry(Duration::ZERO),
        };
        let ended = end_signal.token();
        if admitted.record.waiting.is_some() {
            self.note_waiting(&admitted, None).await;
        }
        let (active, in_flight) = (self.metrics.track_active_job(), AtomicUsize::new(0));
        let stopped = tokio::select! {
            biased;
            () = ended.cancelled() => None,
            () = self.stop.cancelled() => return Settlement::Retry(Duration::ZERO),
            failure = wait_for_deadline(&admitted, self.clock) => Some(DispatchStop::Failed(failure)),
            stopped = self.dispatch(&admitted, received, ended, &in_flight) => Some(stopped),
        };
        drop(active);
        match stopped {
            Some(DispatchStop::Starved) => {
                self.note_wait(&admitted, 1).await;
                return Settlement::Retry(retry_delay(
                    self.clock.elapsed_since(&admitted.record.submitted_at),
                ));
            }
            Some(DispatchStop::Blocked(error)) => return retry_later("driving the job", &error),
            Some(DispatchStop::Failed(failure)) => {
                let failure = self.explain(&admitted, failure).await;
                match self.request_end_and_wait(&admitted, failure, ended).await {
                    Some(Ok(())) => {}
                    Some(Err(error)) => return retry_later("requesting the job's end", &error),
                    None => return Settlement::Retry(Duration::ZERO),
                }
            }
            None => {}
        }
        // An earlier planner of the job may still have been publishing.
        let may_have_stragglers = admitted.taken_over || in_flight.into_inner() > 0;
        if may_have_stragglers { Settlement::Retry(STRAGGLER_GRACE_PERIOD) } else { Settlement::Ack }
    }

    /// Prepares a job and dispatches its shards. Returns only when the job has failed or waits for
    /// agents. Never returns for a job that ends otherwise: the caller drops the future then.
    /// Stores the number of in-flight shards in `in_flight`.
    async fn dispatch(
        &self,
        admitted: &AdmittedJob,
        received: Instant,
        ended: &CancellationToken,
        in_flight: &AtomicUsize,
    ) -> DispatchStop {
        let planning_time = received.elapsed();
        let prepared =
            retry_transient(ended, "preparing the job", || self.preparer.prepare(admitted, planning_time));
        let outcomes = match prepared.await {
            Some(Ok(outcomes)) => outcomes,
            Some(Err(error)) => return DispatchStop::after("preparing the job", error),
            None => return std::future::pending().await,
        };
        self.dispatch_loop
            .run(admitted, outcomes, ended, |shards| in_flight.store(shards, Ordering::Relaxed))
            .await
    }

    /// Adds to a timeout what the job was waiting for, as its record says.
    async fn explain(&self, admitted: &AdmittedJob, failure: DispatchFailure) -> DispatchFailure {
        if failure.code != FailureCode::Timeout {
            return failure;
        }
        let found = job_records::get(self.bus.as_ref(), &admitted.bucket, &admitted.job.id).await;
        let record = found.ok().flatten().map(|found| found.record);
        let record = record.filter(|record| record.uid == admitted.uid());
        match record.and_then(|record| record.waiting) {
            Some(reason) => failure.while_waiting(&reason),
            None => failure,
        }
    }

    /// Requests the end of a failed job and waits until its record is terminal. Returns `None` if
    /// the service stops first.
    async fn request_end_and_wait(
        &self,
        admitted: &AdmittedJob,
        failure: DispatchFailure,
        ended: &CancellationToken,
    ) -> Option<Result<(), BusError>> {
        let order = failure.into_order(admitted.job.id.clone(), admitted.uid(), &admitted.bucket);
        let requested = retry_transient(&self.stop, "requesting the job's end", || {
            self.end_requester.request(order.clone())
        });
        if let Err(error) = requested.await? {
            return Some(Err(error));
        }
        self.stop.run_until_cancelled(ended.cancelled()).await.map(Ok)
    }
}
