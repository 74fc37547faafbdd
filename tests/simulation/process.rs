//! One incarnation of a simulated process, and what may happen to it at each of its operations:
//! it dies, it freezes, an answer gets lost. A process acts on others only through the bus and the
//! store, so a process whose operations are never answered again is a dead one, whatever its tasks
//! still do.

use std::{future::pending, sync::Arc, time::Duration};

use forge_bus::BusError;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// Upper bound of the usual time of a request or an answer.
const USUAL_DELAY: Duration = Duration::from_millis(5);
/// Upper bound of a long one.
const LONG_DELAY: Duration = Duration::from_secs(8);
/// Upper bound of a freeze: twice as long as the lease, and more.
const MAX_FREEZE: Duration = Duration::from_secs(60);

/// One incarnation of a process.
pub struct Process {
    pub name: String,
    pub world: Arc<World>,
    /// Cancelled when the process dies.
    pub death: CancellationToken,
    /// Whether it may die or freeze.
    is_mortal: bool,
    frozen_until: Mutex<Option<Instant>>,
}

impl Process {
    /// A process that may die and freeze.
    pub fn new(name: String, world: &Arc<World>) -> Arc<Self> {
        Self::with_mortality(name, world, true)
    }

    /// A process that only has a bad connection.
    pub fn immortal(name: String, world: &Arc<World>) -> Arc<Self> {
        Self::with_mortality(name, world, false)
    }

    fn with_mortality(name: String, world: &Arc<World>, is_mortal: bool) -> Arc<Self> {
        let (world, death) = (Arc::clone(world), CancellationToken::new());
        Arc::new(Self { name, world, death, is_mortal, frozen_until: Mutex::new(None) })
    }

    /// Waits while the process is frozen; forever if it is dead.
    pub async fn pass(&self) {
        loop {
            if self.death.is_cancelled() {
                return pending().await;
            }
            let Some(until) = *self.frozen_until.lock() else { return };
            if until <= Instant::now() {
                self.frozen_until.lock().take();
                return;
            }
            sleep_until(until).await;
        }
    }

    /// What may happen at any operation.
    async fn reach(&self, operation: &str) {
        self.pass().await;
        if !self.is_mortal {
            return;
        }
        let (world, faults) = (&self.world, &self.world.options.faults);
        if world.happens(faults.crash) {
            world.record(&self.name, format_args!("dies at {operation}"));
            self.death.cancel();
        } else if world.happens(faults.freeze) {
            let time = world.up_to(MAX_FREEZE);
            world.record(&self.name, format_args!("freezes for {time:?} at {operation}"));
            *self.frozen_until.lock() = Some(Instant::now() + time);
        }
        self.pass().await;
    }

    /// A request on its way: it takes some time, and may get lost.
    ///
    /// # Errors
    /// If the request gets lost.
    pub async fn request(&self, operation: &str, loss: f64) -> Result<(), BusError> {
        self.reach(operation).await;
        self.travel().await;
        if self.world.happens(loss) {
            self.world.record(&self.name, format_args!("{operation} fails"));
            return Err(BusError::Unavailable("the simulated server is unreachable".to_owned()));
        }
        Ok(())
    }

    /// An answer on its way back.
    ///
    /// # Errors
    /// If the answer gets lost.
    pub async fn answer(&self, operation: &str, loss: f64) -> Result<(), BusError> {
        if self.world.happens(loss) {
            self.world.record(&self.name, format_args!("the answer to {operation} is lost"));
            self.travel().await;
            self.reach(operation).await;
            return Err(BusError::Unavailable("the simulated answer was lost".to_owned()));
        }
        self.travel().await;
        self.reach(operation).await;
        Ok(())
    }

    /// Fails while the bus is away for everyone, or this stream or bucket has no leader.
    ///
    /// # Errors
    /// If it is.
    pub fn reach_bus(&self, asset: Option<&str>, operation: &str) -> Result<(), BusError> {
        if self.world.is_bus_away() {
            self.world.record(&self.name, format_args!("{operation} finds no bus"));
            return Err(BusError::Unavailable("the simulated bus is away".to_owned()));
        }
        if asset.is_some_and(|asset| self.world.is_leaderless(asset)) {
            self.world.record(&self.name, format_args!("{operation} finds no leader"));
            return Err(BusError::Unavailable("the simulated stream has no leader".to_owned()));
        }
        Ok(())
    }

    /// Waits until an item of a watch or a replay reaches the process.
    pub async fn arrive(&self) {
        if self.world.happens(self.world.options.faults.stall) {
            let time = self.world.up_to(LONG_DELAY);
            self.world.record(&self.name, format_args!("a watch or a replay stalls for {time:?}"));
            sleep(time).await;
        }
        self.pass().await;
    }

    async fn travel(&self) {
        let is_long = self.world.happens(self.world.options.faults.delay);
        let time = self.world.up_to(if is_long { LONG_DELAY } else { USUAL_DELAY });
        if !time.is_zero() {
            sleep(time).await;
        }
    }
}
