//! Wall and CPU time of a call.

use std::time::{Duration, Instant};

/// Measures the wall time and the CPU time of the thread that starts it.
pub(super) struct Stopwatch {
    wall: Instant,
    cpu: Option<Duration>,
}

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "measures computation, which tokio's paused time does not")]
    pub(super) fn start() -> Self {
        Self { wall: Instant::now(), cpu: thread_cpu_time() }
    }

    /// Returns wall and CPU time since the start. Call it on the same thread. Where the system does
    /// not report CPU time, it equals the wall time.
    pub(super) fn elapsed(&self) -> (Duration, Duration) {
        let wall = self.wall.elapsed();
        let cpu = thread_cpu_time().zip(self.cpu).map(|(now, start)| now.saturating_sub(start));
        (wall, cpu.unwrap_or(wall))
    }
}

/// CPU time of the calling thread; `None` where the system does not report it.
fn thread_cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).ok()
    }
    #[cfg(not(unix))]
    None
}
