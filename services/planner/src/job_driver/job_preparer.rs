//! Prepares a job for its dispatch: stores its program, hands it to an aggregator, marks its record
//! as planned, and opens the replay of its outcomes.

use std::time::Duration;

use forge_bus::{
    BusError, Replay, SharedBus,
    topology::{self, Stream},
};
use forge_contract::{
    job::{JobRecord, JobState},
    protocol::PROTOCOL,
    task::ReduceOrder,
};
use forge_kernel::plan::Plan;
use forge_service::{clock::Clock, job_records, orders, program_store::ProgramStore};
use tokio::sync::Mutex;

use crate::admitted_job::AdmittedJob;

/// Prepares jobs.
#[derive(Debug)]
pub struct JobPreparer {
    bus: SharedBus,
    clock: Clock,
    programs: ProgramStore,
    /// Held while the space for an order is checked and the order is published.
    ordering: Mutex<()>,
}

impl JobPreparer {
    pub fn new(bus: SharedBus, clock: Clock, programs: ProgramStore) -> Self {
        Self { bus, clock, programs, ordering: Mutex::default() }
    }

    /// Prepares a job and returns the outcomes of its shards: the stored ones first, then new ones
    /// as they arrive. Idempotent. `planning_time` goes to the aggregator for its statistics.
    ///
    /// # Errors
    /// Returns any error from the underlying bus operations.
    pub async fn prepare(&self, admitted: &AdmittedJob, planning_time: Duration) -> Result<Replay, BusError> {
        let request = &admitted.job.request;
        let (_, _, outcomes) = tokio::try_join!(
            self.programs.put(request.program_digest, &request.program),
            self.order_reduction(admitted, planning_time),
            self.bus.replay(Stream::Verdicts, vec![topology::outcomes_subject(admitted.uid())]),
        )?;
        Ok(outcomes)
    }

    /// Orders the job's reduction from an aggregator, then marks the record as planned. A new order
    /// leaves space for orders to end jobs, which are in the same stream: else no job could be
    /// cancelled once the stream is full.
    async fn order_reduction(&self, admitted: &AdmittedJob, planning_time: Duration) -> Result<(), BusError> {
        let (job, request) = (&admitted.job.id, &admitted.job.request);
        let (message, id) = orders::build_reduce(ReduceOrder {
            protocol: PROTOCOL,
            job_id: job.clone(),
            job_uid: admitted.uid(),
            envelope: request.envelope.clone(),
            plan_us: planning_time.as_micros() as u64,
        });
        let ordering = self.ordering.lock().await;
        let (stream, size) = (Stream::Reduce, message.payload.len() as u64);
        let has_room = self.bus.stream_space(stream).await?.has_room_for(size);
        if !has_room && !self.is_ordered(admitted).await? {
            let name = stream.name();
            return Err(BusError::Full(format!("the rest of {name} is for orders that end jobs")));
        }
        self.bus.publish(message, &id).await?;
        drop(ordering);
        let mark = |record: &mut JobRecord| mark_planned(record, &request.plan);
        job_records::update(self.bus.as_ref(), self.clock, &admitted.bucket, job, mark).await?;
        Ok(())
    }

    /// Whether the reduction was ordered before, by a planner that died or in an attempt that
    /// failed afterwards. The order may be what fills the stream.
    async fn is_ordered(&self, admitted: &AdmittedJob) -> Result<bool, BusError> {
        let found = job_records::get(self.bus.as_ref(), &admitted.bucket, &admitted.job.id).await?;
        let record = found.map(|found| found.record).filter(|record| record.uid == admitted.uid());
        Ok(record.is_some_and(|record| record.state >= JobState::Planned))
    }
}

/// Marks a record as planned, unless the job has reached that state already. Returns whether the
/// record changed.
fn mark_planned(record: &mut JobRecord, plan: &Plan) -> bool {
    if record.state >= JobState::Planned {
        return false;
    }
    record.state = JobState::Planned;
    record.progress.iterations = plan.iterations();
    record.progress.shards = plan.shard_count();
    true
}

#[cfg(test)]
mod tests {
    use forge_contract::ids::JobUid;

    use super::*;
    use crate::submission_record::{SubmissionOrigin, initial_record};

    #[test]
    fn record_is_marked_as_planned_once() {
        let origin = SubmissionOrigin {
            submitter: Default::default(),
            sequence: 1,
            attempt: 1,
            time: "2026-11-23T04:21:23.123Z".to_owned(),
            trace_id: None,
        };
        let mut record = initial_record("j".parse().unwrap(), JobUid([1; 16]), origin, None);
        assert!(mark_planned(&mut record, &Plan::new(100_000, 1, None)));
        assert_eq!(record.state, JobState::Planned);
        assert_eq!((record.progress.iterations, record.progress.shards), (100_000, 2));
        record.state = JobState::Running;
        assert!(!mark_planned(&mut record, &Plan::new(1, 1, None)));
        assert_eq!((record.state, record.progress.iterations), (JobState::Running, 100_000));
    }
}
