//! The watchdog against glommio's lost wake-up.
//!
//! glommio-ng 0.12 can fall asleep with work to do: when its latency ring shows an event after it polled and before
//! it ran its first task, it takes "preempted before running anything" for "nothing to run" and parks until some
//! later event. Nothing inside the executor helps, for its own wake-up gets lost the same way. So one thread looks
//! every millisecond whether each executor's progress counter moved, and where it did not, interrupts that thread's
//! sleep with a signal whose handler does nothing: `io_uring_enter` returns EINTR and the loop looks again. An
//! executor that made no progress for [`QUIET_PERIODS`] periods, and has no mail, is interrupted only every
//! [`QUIET_PERIOD`]: each interruption costs it some 30 us.
//!
//! This file can go when glommio holds the fix (glommio/glommio pull request 53) in a release.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a busy executor is looked at.
pub const PERIOD: Duration = Duration::from_millis(1);
/// How often one is interrupted that made no progress for [`QUIET_PERIODS`].
pub const QUIET_PERIOD: Duration = Duration::from_millis(25);
/// Periods without progress after which an executor counts as quiet; also those of a [`QUIET_PERIOD`].
pub const QUIET_PERIODS: u32 = 25;

const _: () = assert!(PERIOD.as_millis() * QUIET_PERIODS as u128 == QUIET_PERIOD.as_millis());

/// Thread number of an executor that has left.
const LEFT: i32 = -1;

/// What an executor shows the watchdog.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Moves with every piece of work. Only the executor writes it.
    progress: AtomicU64,
    /// Moves with every turn of the executor, whether there was work or not. Only the executor writes it.
    turns: AtomicU64,
    /// How long the watchdog has seen no turn, ms. Only the watchdog writes it.
    still_ms: AtomicU64,
    /// The executor's thread; 0 before it registered, [`LEFT`] after it left.
    thread: AtomicI32,
    /// Interruptions after which the executor found work. Only the watchdog writes it.
    useful: AtomicU64,
}

impl Pulse {
    /// Says that the executor did something.
    pub fn beat(&self) {
        self.progress.store(self.progress.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Says that the executor is alive, though it may have had nothing to do: several times a second.
    pub fn turn(&self) {
        self.turns.store(self.turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// How long the executor has made no [`turn`](Self::turn), ms; 0 once it has left. Counted in the watchdog's own
    /// periods: time in which the whole process stood still does not count.
    #[must_use]
    pub fn still_ms(&self) -> u64 {
        if self.thread.load(Ordering::Acquire) == LEFT { 0 } else { self.still_ms.load(Ordering::Relaxed) }
    }

    /// Registers the calling thread as the executor's.
    pub fn register(&self) {
        // SAFETY: a system call without arguments that cannot fail.
        let thread = unsafe { libc::gettid() };
        self.thread.store(thread, Ordering::Release);
    }

    /// The executor's thread is about to end.
    pub fn leave(&self) {
        self.thread.store(LEFT, Ordering::Release);
    }

    /// Interruptions after which the executor found work to do.
    #[must_use]
    pub fn useful_interruptions(&self) -> u64 {
        self.useful.load(Ordering::Relaxed)
    }
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// The running watchdog.
pub struct Watchdog {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// An executor that is watched.
pub struct Watched {
    pulse: Arc<Pulse>,
    has_mail: Box<dyn Fn() -> bool + Send>,
    last: u64,
    /// Periods since it made progress.
    still: u32,
    turns: u64,
    /// When it is interrupted next, in periods without progress.
    next: u32,
    interrupted: bool,
}

impl Watchdog {
    /// Starts watching.
    ///
    /// # Errors
    /// When the signal's handler or the thread cannot be set up.
    pub fn start(mut watched: Vec<Watched>) -> io::Result<Watchdog> {
        // SAFETY: the handler does nothing, so it is safe at any point of any thread; `action` is plain data. No
        // SA_RESTART: the point is that the system call returns.
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut())
        };
        if installed != 0 {
            return Err(io::Error::last_os_error());
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("watchdog".into()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                let quiet = watched.iter().all(|w| w.still > QUIET_PERIODS);
                let (sleep, periods) = if quiet { (QUIET_PERIOD, QUIET_PERIODS) } else { (PERIOD, 1) };
                std::thread::sleep(sleep);
                watched.iter_mut().for_each(|w| w.look(periods));
            }
        })?;
        Ok(Watchdog { stop, thread: Some(thread) })
    }
}

impl Watched {
    /// Watches the executor of a pulse. `has_mail` says whether another thread left something for it to do.
    pub fn new(pulse: Arc<Pulse>, has_mail: impl Fn() -> bool + Send + 'static) -> Watched {
        Watched {
            pulse,
            has_mail: Box::new(has_mail),
            last: 0,
            still: 0,
            turns: 0,
            next: 0,
            interrupted: false,
        }
    }

    /// Looks at it after so many periods.
    fn look(&mut self, periods: u32) {
        self.look_at_turns(periods);
        let progress = self.pulse.progress.load(Ordering::Relaxed);
        if progress != self.last {
            if self.interrupted {
                let useful = &self.pulse.useful;
                useful.store(useful.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            (self.last, self.still, self.next, self.interrupted) = (progress, 0, 0, false);
            return;
        }
        self.still = self.still.saturating_add(periods);
        if self.still < self.next && !(self.has_mail)() {
            return;
        }
        self.next = if self.still > QUIET_PERIODS { self.still.saturating_add(QUIET_PERIODS) } else { 0 };
        match self.pulse.thread.load(Ordering::Acquire) {
            LEFT => {}
            // Its first task, which registers it, may be what it sleeps through: any thread may be it.
            0 => threads().for_each(interrupt),
            thread => {
                interrupt(thread);
                self.interrupted = true;
            }
        }
    }
}

impl Watched {
    fn look_at_turns(&mut self, periods: u32) {
        let turns = self.pulse.turns.load(Ordering::Relaxed);
        let slept = u64::from(periods) * PERIOD.as_millis() as u64;
        let still = if turns == self.turns { self.pulse.still_ms.load(Ordering::Relaxed) + slept } else { 0 };
        self.turns = turns;
        self.pulse.still_ms.store(still, Ordering::Relaxed);
    }
}

fn interrupt(thread: i32) {
    // SAFETY: a system call with plain numbers. If the thread has just ended, the call fails and nothing happens;
    // the process id keeps it from reaching another process's thread.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGURG) };
}

/// The threads of this process.
fn threads() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::{AsyncReadExt, AsyncWriteExt};
    use glommio::net::TcpListener;
    use glommio::{LocalExecutorBuilder, Placement};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::mpsc;

    /// Far below what is sound: an event of this timer lies in nearly every first look at the rings.
    const PREEMPT: Duration = Duration::from_micros(20);
    /// What takes this long was lost, not slow: a round trip takes some 20 us.
    const LOST: Duration = Duration::from_secs(2);
    /// What takes this long was not bounded, however busy the machine is: nothing waits for it otherwise.
    const UNBOUNDED: Duration = Duration::from_secs(60);
    const ROUND_TRIPS: u32 = 2000;

    /// Round trips over loopback with an echoing executor. `None` when one, or its start or end, was lost; its
    /// thread then sleeps until the process ends.
    fn round_trips(pulse: &Arc<Pulse>, lost: Duration) -> Option<()> {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let beats = Arc::clone(pulse);
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .preempt_timer(PREEMPT)
            .spawn(move || async move {
                beats.register();
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                let mut stream = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut bytes = [0; 64];
                while stream.read_exact(&mut bytes).await.is_ok() {
                    beats.beat();
                    if stream.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
                beats.leave();
                let _ = end.send(());
            })
            .unwrap();
        std::mem::forget(executor);
        let mut stream = TcpStream::connect(told.recv_timeout(lost).ok()?).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(lost)).unwrap();
        for _ in 0..ROUND_TRIPS {
            stream.write_all(&[1; 64]).unwrap();
            stream.read_exact(&mut [0; 64]).ok()?;
        }
        drop(stream);
        ended.recv_timeout(lost).ok()
    }

    #[test]
    fn time_without_a_turn_is_counted_until_the_next_one() {
        let pulse = Arc::new(Pulse::default());
        // No executor is to be interrupted.
        pulse.leave();
        let mut watched = Watched::new(Arc::clone(&pulse), || false);
        let still = |watched: &Watched| watched.pulse.still_ms.load(Ordering::Relaxed);
        for _ in 0..400 {
            watched.look(QUIET_PERIODS);
        }
        assert_eq!((still(&watched), pulse.still_ms()), (10_000, 0), "who has left does not count");
        pulse.beat();
        watched.look(1);
        assert_eq!(still(&watched), 10_001, "work is no turn: it may be what does not end");
        pulse.turn();
        watched.look(1);
        assert_eq!(still(&watched), 0);
        watched.look(3);
        pulse.register();
        assert_eq!(pulse.still_ms(), 3);
    }

    #[test]
    fn executors_that_lose_wake_ups_hang_without_the_watchdog_and_not_with_it() {
        const TRIES: usize = 50;
        let alone = (0..TRIES).find(|_| round_trips(&Arc::default(), LOST).is_none());
        assert!(alone.is_some(), "glommio loses no wake-up any more: this file can go");
        for _ in 0..5 {
            let pulse = Arc::new(Pulse::default());
            let watchdog = Watchdog::start(vec![Watched::new(Arc::clone(&pulse), || false)]).unwrap();
            assert!(round_trips(&pulse, UNBOUNDED).is_some(), "the watchdog bounds every sleep");
            drop(watchdog);
        }
    }
}
