//! What the processes of a simulation share: the source of all random decisions, the trace, and
//! whether faults are still injected.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Display,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::options::SimulationOptions;

/// Lines of the trace that a failure prints.
const KEPT_LINES: usize = 300;

/// Upper bound of the time for which the bus is away.
const MAX_OUTAGE: Duration = Duration::from_secs(15);
/// Upper bound of the time for which the store is away: longer than aggregators wait for it, so
/// that jobs fail, and short enough for them to store why.
const MAX_STORE_OUTAGE: Duration = Duration::from_secs(40);
/// Upper bound of the time for which a stream or bucket has no leader.
const MAX_ELECTION: Duration = Duration::from_secs(10);

/// The shared state of a simulation.
pub struct World {
    pub options: SimulationOptions,
    start: Instant,
    /// Cancelled when all faults end.
    pub healed: CancellationToken,
    /// End of the last outage of the bus.
    outage_until: Mutex<Instant>,
    /// End of the last outage of the store.
    store_outage_until: Mutex<Instant>,
    /// Number of messages that their senders have given up, and that are still to be stored.
    late_messages: AtomicUsize,
    /// Ends of the last elections, by the name of the stream or bucket.
    elections: Mutex<BTreeMap<String, Instant>>,
    rng: Mutex<Rng>,
    trace: Mutex<Trace>,
}

struct Trace {
    hasher: DefaultHasher,
    count: u64,
    kept_lines: usize,
    lines: VecDeque<String>,
}

impl World {
    /// Creates the world of a run. `kept_lines` is the length of the trace that is kept; its hash
    /// always covers all lines.
    pub fn new(options: SimulationOptions, keeps_all_lines: bool) -> Arc<Self> {
        let kept_lines = if keeps_all_lines { usize::MAX } else { KEPT_LINES };
        Arc::new(Self {
            rng: Mutex::new(Rng::with_seed(options.seed ^ 0x5eed)),
            options,
            start: Instant::now(),
            outage_until: Mutex::new(Instant::now()),
            store_outage_until: Mutex::new(Instant::now()),
            late_messages: AtomicUsize::new(0),
            elections: Mutex::default(),
            healed: CancellationToken::new(),
            trace: Mutex::new(Trace {
                hasher: DefaultHasher::new(),
                count: 0,
                kept_lines,
                lines: VecDeque::new(),
            }),
        })
    }

    /// Time since the start of the run.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Appends a line to the trace.
    pub fn record(&self, process: &str, event: impl Display) {
        let line = format!("{:>9.3} {process}: {event}", self.now().as_secs_f64());
        let mut trace = self.trace.lock();
        line.hash(&mut trace.hasher);
        trace.count += 1;
        if trace.lines.len() >= trace.kept_lines {
            trace.lines.pop_front();
        }
        trace.lines.push_back(line);
    }

    /// The hash of the trace, and its number of lines.
    pub fn trace_hash(&self) -> (u64, u64) {
        let trace = self.trace.lock();
        (trace.hasher.finish(), trace.count)
    }

    /// The end of the trace.
    pub fn trace_lines(&self) -> Vec<String> {
        self.trace.lock().lines.iter().cloned().collect()
    }

    /// Draws from the run's source of randomness.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.rng.lock())
    }

    /// Whether a fault with this probability happens now. Never after [`World::heal`].
    pub fn happens(&self, probability: f64) -> bool {
        probability > 0.0 && !self.is_healed() && self.draw(Rng::f64) < probability
    }

    /// A random time of up to `max`.
    pub fn up_to(&self, max: Duration) -> Duration {
        let milliseconds = u64::try_from(max.as_millis()).expect("a few hours at most");
        Duration::from_millis(self.draw(|rng| rng.u64(0..=milliseconds)))
    }

    /// Whether the bus is unreachable now, for everyone. May begin an outage.
    pub fn is_bus_away(&self) -> bool {
        if self.happens(self.options.faults.outage) {
            let time = self.up_to(MAX_OUTAGE);
            self.record("world", format_args!("the bus is away for {time:?}"));
            *self.outage_until.lock() = Instant::now() + time;
        }
        !self.is_healed() && Instant::now() < *self.outage_until.lock()
    }

    /// Whether the store is unreachable now, for everyone. May begin an outage.
    pub fn is_store_away(&self) -> bool {
        if self.happens(self.options.faults.store_outage) {
            let time = self.up_to(MAX_STORE_OUTAGE);
            self.record("world", format_args!("the store is away for {time:?}"));
            *self.store_outage_until.lock() = Instant::now() + time;
        }
        !self.is_healed() && Instant::now() < *self.store_outage_until.lock()
    }

    /// Notes a message that its sender has given up, and that will be stored.
    pub fn note_late_message(&self) {
        self.late_messages.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that such a message was stored.
    pub fn note_late_arrival(&self) {
        self.late_messages.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a message that its sender has given up is still to be stored.
    pub fn has_late_messages(&self) -> bool {
        self.late_messages.load(Ordering::Relaxed) > 0
    }

    /// Whether this stream or bucket has no leader now. May begin an election.
    pub fn is_leaderless(&self, asset: &str) -> bool {
        if self.happens(self.options.faults.leader_change) {
            let time = self.up_to(MAX_ELECTION);
            self.record("world", format_args!("{asset} has no leader for {time:?}"));
            self.elections.lock().insert(asset.to_owned(), Instant::now() + time);
        }
        !self.is_healed() && self.elections.lock().get(asset).is_some_and(|end| Instant::now() < *end)
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.record("world", "all faults end");
        self.healed.cancel();
    }

    pub fn is_healed(&self) -> bool {
        self.healed.is_cancelled()
    }
}
