//! What clients wait for at most for as long as they said. No request has a timer of its own: the shard's ticks look.

use crate::clock::monotonic_ms;
use crate::machine::error::ErrorCode;
use crate::shard::Shard;
use crate::shard::produce::Produce;
use crate::shard::watch::Signal;
use futures_lite::FutureExt;
use std::future::Future;
use std::rc::{Rc, Weak};

/// What has a deadline.
pub enum Timed {
    /// A produce request, until it is answered.
    Produce(Weak<Produce>),
    /// A wait, until whoever waits lets go of the signal.
    Wait(Weak<Signal>),
}

impl Timed {
    fn is_over(&self) -> bool {
        match self {
            Timed::Produce(produce) => produce.upgrade().is_none_or(|produce| produce.is_answered()),
            Timed::Wait(signal) => signal.strong_count() == 0,
        }
    }
}

impl Shard {
    /// Something must be over in `timeout_ms`, as a request says it: nothing is waited for where that is not above 0.
    pub(super) fn time(&self, timeout_ms: i32, what: Timed) {
        let deadline = monotonic_ms() + u64::try_from(timeout_ms).unwrap_or(0);
        self.deadlines.borrow_mut().add(deadline, what, Timed::is_over);
    }

    /// Ends the waits whose time is up.
    pub(super) fn end_late(&self, now: u64) {
        let late = self.deadlines.borrow_mut().due(now, Timed::is_over);
        for what in late {
            match what {
                Timed::Produce(produce) => {
                    if let Some(produce) = produce.upgrade() {
                        produce.time_out();
                    }
                }
                Timed::Wait(signal) => {
                    if let Some(signal) = signal.upgrade() {
                        signal.set();
                    }
                }
            }
        }
    }

    /// Waits for something at most as long as a request says. What it waits for may happen all the same.
    ///
    /// # Errors
    /// REQUEST_TIMED_OUT.
    pub async fn within<T>(&self, timeout_ms: i32, work: impl Future<Output = T>) -> Result<T, ErrorCode> {
        let signal = Rc::new(Signal::default());
        self.time(timeout_ms, Timed::Wait(Rc::downgrade(&signal)));
        let late = async {
            signal.wait().await;
            Err(ErrorCode::REQUEST_TIMED_OUT)
        };
        async { Ok(work.await) }.or(late).await
    }
}
