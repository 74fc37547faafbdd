//! What a seed decides before a simulation starts: the cluster, its faults and its length.

use std::time::Duration;

use fastrand::Rng;
use forge_contract::{envelope::Target, quota::Quota};

/// Bounds of the limit of a server that accepts only small messages: every envelope fits, and not
/// every result or program.
const MIN_MESSAGE_LIMIT: usize = 8 << 10;
const MAX_MESSAGE_LIMIT: usize = 64 << 10;

/// How a simulated worker behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerConduct {
    /// Executes shards correctly, in milliseconds.
    Honest,
    /// Executes shards correctly, in up to a minute each.
    Slow,
    /// Its backend fails for some shards.
    Failing,
    /// Returns wrong results for some shards.
    Lying,
    /// Answers every shard under a new identity, sometimes wrongly or under an invented task.
    Forging,
}

impl WorkerConduct {
    /// Whether it may return a wrong result.
    pub fn is_dishonest(self) -> bool {
        matches!(self, Self::Lying | Self::Forging)
    }
}

/// A simulated worker.
#[derive(Debug, Clone, Copy)]
pub struct WorkerOptions {
    pub conduct: WorkerConduct,
    /// The hardware that it has; it takes shards for `any` too.
    pub target: Target,
}

/// The faults of a run, as probabilities of each operation; zero if the fault is off. Every seed
/// turns on a random subset, because faults hide each other when all of them are on.
#[derive(Debug, Clone, Default)]
pub struct FaultRates {
    /// A request to the bus fails without effect.
    pub unavailable: f64,
    /// A request to the bus takes effect, but fails for its sender.
    pub lost_answer: f64,
    /// A request or an answer takes seconds.
    pub delay: f64,
    /// A settlement or a renewal of a lease is lost, so that the message is delivered again.
    pub lost_settlement: f64,
    /// A read of a bucket returns the value of some seconds ago.
    pub stale_read: f64,
    /// A process dies at an operation, and starts again some seconds later.
    pub crash: f64,
    /// A process freezes for up to a minute.
    pub freeze: f64,
    /// A request to the store fails without effect.
    pub store_failure: f64,
    /// A write to the store takes effect, but fails for its sender.
    pub store_lost_answer: f64,
    /// A write to the store conflicts with a concurrent one, of which nothing else is seen.
    pub store_conflict: f64,
    /// A write to the store fails after a part of the object.
    pub store_partial_write: f64,
    /// A request to the store is not answered for a long time.
    pub store_hang: f64,
    /// A stream or bucket has no space for a message.
    pub full: f64,
    /// The bus has forgotten the id of a message, and stores it again.
    pub forgotten_id: f64,
    /// A watch or a replay stalls for seconds.
    pub stall: f64,
    /// A watch is interrupted, and resumed some seconds later.
    pub watch_gap: f64,
    /// A broadcast does not reach a subscriber.
    pub lost_broadcast: f64,
    /// The bus is unreachable for every process for seconds, as while it elects a leader.
    pub outage: f64,
    /// Messages per second that no service has written.
    pub garbage: f64,
    /// Upper bound of the difference of a process's clock, in seconds.
    pub clock_skew: f64,
    /// One stream or bucket is unreachable for seconds, as while it elects a leader.
    pub leader_change: f64,
    /// The server accepts only smaller messages than it said when services connected: the smaller,
    /// the higher this is. Zero if it accepts all messages.
    pub too_large: f64,
    /// A published message is stored up to a minute after its sender has given it up.
    pub late: f64,
    /// A stored result is lost, as when a server loses what it had not yet written to its disk.
    pub lost_result: f64,
    /// The store is unreachable for every process, for up to 40 seconds.
    pub store_outage: f64,
    /// A request for an object of [`SimulationOptions::slow_object`] takes seconds.
    pub store_slow: f64,
    /// How often each verifier dies, per second; another one then replaces it.
    pub verifier_deaths: f64,
    /// The error document of an aggregator that has died is stored late, while another aggregator
    /// completes the job. Per job.
    pub late_error: f64,
}

/// Everything that a seed decides in advance.
#[derive(Debug, Clone)]
pub struct SimulationOptions {
    pub seed: u64,
    pub planners: usize,
    pub aggregators: usize,
    pub verifiers: usize,
    pub workers: Vec<WorkerOptions>,
    pub faults: FaultRates,
    pub jobs: usize,
    /// Time during which faults are injected and jobs submitted.
    pub turmoil: Duration,
    /// Limits of every submitter.
    pub quota: Quota,
    /// Name of the objects that the store is slow with.
    pub slow_object: &'static str,
    /// Share of the clients that cancel their job within a second.
    pub hasty_clients: f64,
}

impl SimulationOptions {
    /// Draws the options of a seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // In one cluster of eight, only a slow worker returns right results.
        let is_hostile = rng.u8(0..8) == 0;
        // The first worker is honest, so that every job can complete.
        let mut conducts = vec![if is_hostile { WorkerConduct::Slow } else { WorkerConduct::Honest }];
        for _ in 0..rng.usize(0..6) {
            conducts.push(match rng.u8(if is_hostile { 8..10 } else { 0..10 }) {
                0..=5 => WorkerConduct::Honest,
                6 => WorkerConduct::Slow,
                7 => WorkerConduct::Failing,
                8 => WorkerConduct::Lying,
                _ => WorkerConduct::Forging,
            });
        }
        let of_cpu = |conduct| WorkerOptions { conduct, target: Target::Cpu };
        let mut workers: Vec<_> = conducts.into_iter().map(of_cpu).collect();
        if !is_hostile && rng.u8(0..3) == 0 {
            workers.push(WorkerOptions { conduct: WorkerConduct::Honest, target: Target::Gpu });
        }
        Self {
            seed,
            planners: rng.usize(1..=3),
            aggregators: rng.usize(1..=3),
            verifiers: rng.usize(1..=2),
            workers,
            faults: FaultRates::draw(&mut rng),
            jobs: rng.usize(1..=8),
            turmoil: Duration::from_secs(rng.u64(20..=120)),
            quota: Quota {
                concurrent_jobs: rng.bool().then(|| rng.u64(1..=4)),
                iterations_per_day: (rng.u8(0..4) == 0).then(|| rng.u64(100_000..=4_000_000)),
                billable: rng.u8(0..3) != 0,
            },
            slow_object: ["error.json", "manifest.json"][rng.usize(0..2)],
            hasty_clients: if rng.bool() { rng.f64() } else { 0.0 },
        }
    }

    /// The same options with these faults off.
    pub fn without(&self, faults: &[String]) -> Self {
        let mut options = self.clone();
        for (name, rate) in options.faults.by_name() {
            if faults.iter().any(|fault| fault == name) {
                *rate = 0.0;
            }
        }
        options
    }

    /// Whether some worker may return wrong results.
    pub fn has_dishonest_workers(&self) -> bool {
        self.workers.iter().any(|worker| worker.conduct.is_dishonest())
    }

    /// Whether some worker has a GPU.
    pub fn has_gpu(&self) -> bool {
        self.workers.iter().any(|worker| worker.target == Target::Gpu)
    }

    /// Whether the first worker, which returns right results, is fast.
    pub fn has_fast_worker(&self) -> bool {
        self.workers[0].conduct == WorkerConduct::Honest
    }
}

impl FaultRates {
    fn draw(rng: &mut Rng) -> Self {
        // One run in ten has no fault: it shows what faults are to blame for.
        if rng.u8(0..10) == 0 {
            return Self::default();
        }
        // In one run in six, the store is slow and does not fail: failures hide what is late.
        let has_slow_store = rng.u8(0..6) == 0;
        // Most jobs need large messages, so few runs refuse them.
        let too_large = if rng.u8(0..12) == 0 { rng.f64() } else { 0.0 };
        let mut rate = |max: f64| if rng.bool() { max * rng.f64() } else { 0.0 };
        let drawn = Self {
            unavailable: rate(0.1),
            lost_answer: rate(0.1),
            delay: rate(0.05),
            lost_settlement: rate(0.3),
            stale_read: rate(0.2),
            crash: rate(0.005),
            freeze: rate(0.002),
            store_failure: rate(0.3),
            store_lost_answer: rate(0.3),
            store_conflict: rate(0.3),
            store_partial_write: rate(0.3),
            store_hang: rate(0.1),
            garbage: rate(2.0),
            clock_skew: rate(10.0),
            full: rate(0.1),
            forgotten_id: rate(0.5),
            stall: rate(0.05),
            watch_gap: rate(0.05),
            lost_broadcast: rate(0.5),
            outage: rate(0.002),
            leader_change: rate(0.005),
            too_large,
            late: rate(0.05),
            lost_result: rate(0.1),
            store_outage: rate(0.05),
            verifier_deaths: rate(0.3),
            store_slow: 0.0,
            late_error: 0.0,
        };
        if !has_slow_store {
            return drawn;
        }
        Self {
            store_slow: rng.f64(),
            late_error: rng.f64(),
            store_failure: 0.0,
            store_lost_answer: 0.0,
            store_conflict: 0.0,
            store_partial_write: 0.0,
            store_hang: 0.0,
            store_outage: 0.0,
            ..drawn
        }
    }

    /// The rates by name.
    pub fn by_name(&mut self) -> Vec<(&'static str, &mut f64)> {
        macro_rules! names {
            ($($name:ident),*) => { vec![$((stringify!($name), &mut self.$name)),*] };
        }
        names![
            unavailable,
            lost_answer,
            delay,
            lost_settlement,
            stale_read,
            crash,
            freeze,
            store_failure,
            store_lost_answer,
            store_conflict,
            store_partial_write,
            store_hang,
            full,
            forgotten_id,
            stall,
            watch_gap,
            lost_broadcast,
            outage,
            garbage,
            clock_skew,
            leader_change,
            too_large,
            late,
            lost_result,
            store_outage,
            store_slow,
            verifier_deaths,
            late_error
        ]
    }

    /// Names of the faults that are on.
    pub fn names(&self) -> Vec<&'static str> {
        let mut rates = self.clone();
        rates.by_name().into_iter().filter(|(_, rate)| **rate > 0.0).map(|(name, _)| name).collect()
    }

    /// Upper bound of the size of a message, if the server has an unusual one.
    pub fn message_limit(&self) -> Option<usize> {
        let range = (MAX_MESSAGE_LIMIT - MIN_MESSAGE_LIMIT) as f64;
        (self.too_large > 0.0).then(|| MIN_MESSAGE_LIMIT + ((1.0 - self.too_large) * range) as usize)
    }

    /// Whether a live worker may seem to be gone, because heartbeats do not arrive.
    pub fn may_silence_workers(&self) -> bool {
        self.unavailable + self.lost_answer + self.delay + self.crash + self.freeze + self.full > 0.0
            || self.stall + self.outage + self.leader_change + self.clock_skew > 0.0
            || self.watch_gap + self.garbage > 0.0
    }

    /// Whether an aggregator that stores a result may not yet see a verdict, although it was
    /// published before.
    pub fn delays_aggregators(&self) -> bool {
        self.has_store_faults()
            || self.delay + self.freeze + self.stall + self.late > 0.0
            || self.stale_read + self.watch_gap > 0.0
    }

    /// Whether aggregators may have to leave their work to others.
    pub fn interrupts_aggregators(&self) -> bool {
        self.has_store_faults()
            || self.crash + self.freeze + self.lost_settlement + self.unavailable > 0.0
            || self.lost_answer + self.delay + self.outage + self.leader_change > 0.0
    }

    /// Whether the store may fail.
    pub fn has_store_faults(&self) -> bool {
        self.store_failure + self.store_lost_answer + self.store_hang + self.store_outage > 0.0
            || self.store_conflict + self.store_partial_write + self.store_slow > 0.0
    }
}
