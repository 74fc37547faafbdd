//! The clients of a simulation: they submit, repeat, contradict and cancel jobs.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use forge_bus::{
    Bus, BusError, Message,
    topology::{self, API_CANCEL_SUBJECT},
};
use forge_contract::ids::Submitter;
use parking_lot::Mutex;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    cluster::SimulatedCluster,
    garbage::send_garbage,
    late_error::{error_document, store_late_error},
    process::Process,
    process_bus::ProcessBus,
    workload::{PlannedSubmission, draw_submission},
};

/// Time limit of a request to the API.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before a failed request is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Upper bound of the time after which a hasty client cancels its job.
const MAX_HASTE: Duration = Duration::from_secs(1);
/// Requests by which a client tries to submit or cancel a job.
const MAX_REQUESTS: usize = 3;

/// What clients did.
#[derive(Debug, Default)]
pub struct ClientLog {
    /// Every envelope that was sent, once or more.
    pub submissions: Vec<PlannedSubmission>,
    /// Those that the API refused for good, with the status: they need no record.
    pub refused: Vec<(PlannedSubmission, u16)>,
    /// Those that the bus stored, or whose record the API returned.
    pub stored: Vec<PlannedSubmission>,
    /// Jobs whose cancellation was requested.
    pub cancelled: BTreeSet<String>,
    /// Jobs whose id had a failed job before, as the store tells.
    pub failed_before: BTreeSet<String>,
    /// Garbage that was sent in place of envelopes.
    pub garbage: u64,
    /// Subjects of work queues with garbage that services keep for others: for services of another
    /// version, or until the end of a job that does not exist.
    pub kept_garbage: BTreeSet<String>,
}

/// Submits and cancels jobs during the turmoil.
pub async fn run_clients(cluster: &Arc<SimulatedCluster>) -> ClientLog {
    let (world, log) = (&cluster.world, Arc::new(Mutex::new(ClientLog::default())));
    let mut clients = JoinSet::new();
    for number in 0..world.options.jobs {
        let (cluster, log) = (Arc::clone(cluster), Arc::clone(&log));
        clients.spawn(async move { Client::new(&cluster, log, number).run().await });
    }
    if world.options.faults.garbage > 0.0 {
        let (cluster, log) = (Arc::clone(cluster), Arc::clone(&log));
        clients.spawn(async move { send_garbage(&cluster, log).await });
    }
    while let Some(client) = clients.join_next().await {
        client.expect("a client does not panic");
    }
    std::mem::take(&mut *log.lock())
}

/// A client that cares about one job.
struct Client {
    cluster: Arc<SimulatedCluster>,
    bus: ProcessBus,
    log: Arc<Mutex<ClientLog>>,
    number: usize,
}

impl Client {
    fn new(cluster: &Arc<SimulatedCluster>, log: Arc<Mutex<ClientLog>>, number: usize) -> Self {
        let process = Process::immortal(format!("client-{number}"), &cluster.world);
        Self { cluster: Arc::clone(cluster), bus: cluster.connect(&process), log, number }
    }

    async fn run(self) {
        let world = &self.bus.process.world;
        let turmoil = world.options.turmoil;
        sleep(world.up_to(turmoil / 2)).await;
        let job_id = format!("job-{}", self.number);
        let submission = world.draw(|rng| draw_submission(rng, job_id.clone(), &world.options));
        if world.draw(|rng| rng.u8(0..3)) == 0 {
            self.leave_error(&job_id).await;
        }
        let faults = &world.options.faults;
        if submission.is_valid && world.happens(faults.late_error) {
            tokio::spawn(store_late_error(Arc::clone(&self.cluster), job_id.parse().expect("a valid name")));
        }
        self.submit(&submission, 0).await;
        if world.draw(fastrand::Rng::f64) < world.options.hasty_clients {
            sleep(world.up_to(MAX_HASTE)).await;
            self.cancel(&job_id).await;
        }
        for repetition in 1..3 {
            sleep(world.up_to(turmoil / 6)).await;
            match world.draw(|rng| rng.u8(0..8)) {
                0 => self.submit(&submission, repetition).await,
                1 => {
                    let other = world.draw(|rng| draw_submission(rng, job_id.clone(), &world.options));
                    self.submit(&other, repetition).await;
                }
                2 => self.cancel(&job_id).await,
                _ => {}
            }
        }
    }

    /// Leaves the error document of an earlier job of this id, whose record has expired.
    async fn leave_error(&self, job_id: &str) {
        let document = error_document(job_id.parse().expect("a valid name"), "an earlier job");
        self.cluster.store.put_error(&document).await.expect("the store is in memory");
        self.log.lock().failed_before.insert(job_id.to_owned());
    }

    /// Submits an envelope until the bus has stored it or a planner has answered.
    async fn submit(&self, submission: &PlannedSubmission, repetition: usize) {
        self.log.lock().submissions.push(submission.clone());
        let submitter: Submitter = submission.submitter.parse().expect("a valid name");
        let payload = submission.envelope.clone();
        if self.bus.process.world.draw(fastrand::Rng::bool) {
            let subject = topology::api_submit_subject(&submitter);
            for _ in 0..MAX_REQUESTS {
                let request = Message::new(subject.clone(), payload.clone());
                match self.bus.request(request, REQUEST_TIMEOUT).await {
                    Ok(_) => return self.log.lock().stored.push(submission.clone()),
                    Err(BusError::Refused { status: status @ 400..500, .. }) => {
                        return self.log.lock().refused.push((submission.clone(), status));
                    }
                    Err(_) => sleep(RETRY_PAUSE).await,
                }
            }
        }
        let id = format!("client-{}-{repetition}", self.number);
        let message = Message::new(topology::submit_subject(&submitter), payload);
        loop {
            match self.bus.publish(message.clone(), &id).await {
                Ok(()) => return self.log.lock().stored.push(submission.clone()),
                Err(BusError::TooLarge { .. }) => return,
                Err(_) => sleep(RETRY_PAUSE).await,
            }
        }
    }

    async fn cancel(&self, job_id: &str) {
        self.log.lock().cancelled.insert(job_id.to_owned());
        for _ in 0..MAX_REQUESTS {
            let request = Message::new(API_CANCEL_SUBJECT, json!({"job_id": job_id}).to_string());
            if self.bus.request(request, REQUEST_TIMEOUT).await.is_ok() {
                return;
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}
