//! The order of one client connection: responses leave in the order of the requests, and requests that touch
//! the same thing take effect in the order sent, whatever is done off-shard in between.
//!
//! The shell gives every parsed request to [`Connection::open`] and does what it says:
//!
//! 1. A request that is [`Opened::ready`] may start; another one starts when its id comes out of
//!    [`Connection::settle`]. What it touches is named by *keys* (a partition, a group, the metadata), each
//!    shared (reads) or exclusive (writes).
//! 2. As soon as the order of its effect can no longer change (it was applied here, or put into the owning
//!    shard's mailbox) the shell calls [`Connection::settle`]: those behind it may go. Decompressing or loading
//!    off-shard before that point holds only those back that touch the same keys.
//! 3. The response goes to [`Connection::complete`] in any order, and leaves [`Connection::pop_ready`] in the
//!    order of the requests. A produce with `acks=0` takes no slot for a response; it ends with
//!    [`Connection::complete_silent`].
//!
//! Requests in flight and response bytes not yet sent are capped: at the cap [`Connection::can_read`] is false
//! and the shell leaves the socket alone. After [`Connection::close`] everything late is dropped.

mod order;

use std::collections::VecDeque;
use std::hash::Hash;

use order::Order;
pub use order::{Access, RequestId};

/// Caps of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests open at a time, with or without a response slot.
    pub in_flight_max: usize,
    /// Bytes of responses that are complete but not yet taken by the kernel, at which reading stops.
    pub unsent_bytes_max: usize,
    /// A client that takes none of the bytes offered for so long is closed.
    pub stalled_ms_max: u64,
    /// A connection with nothing to do for so long is closed (`connections.max.idle.ms`).
    pub idle_ms_max: u64,
}

/// Requests in flight on one connection by default. Java sends up to 5, librdkafka up to 1,000,000.
pub const IN_FLIGHT_DEFAULT: usize = 256;
/// Unsent response bytes of one connection by default.
pub const UNSENT_BYTES_DEFAULT: usize = 16 << 20;
/// How long a client may read nothing by default.
pub const STALLED_MS_DEFAULT: u64 = 60_000;
/// Kafka's default of `connections.max.idle.ms`.
pub const IDLE_MS_DEFAULT: u64 = 600_000;

const _: () = assert!(STALLED_MS_DEFAULT < IDLE_MS_DEFAULT);

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight_max: IN_FLIGHT_DEFAULT,
            unsent_bytes_max: UNSENT_BYTES_DEFAULT,
            stalled_ms_max: STALLED_MS_DEFAULT,
            idle_ms_max: IDLE_MS_DEFAULT,
        }
    }
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed it.
    Client,
    /// A frame that is no request, or lengths that do not fit.
    Malformed,
    /// A request with `acks=0` failed; closing is the only way to say so.
    SilentRequestFailed,
    /// The client did not read its responses ([`Limits::stalled_ms_max`]).
    NotReading,
    /// Nothing happened for [`Limits::idle_ms_max`].
    Idle,
    /// Reading or writing the socket failed.
    Broken,
    /// The broker stops.
    Shutdown,
}

/// What became of a request given to [`Connection::open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Names the request from now on.
    pub id: RequestId,
    /// Whether it may start now.
    pub ready: bool,
}

/// How a request is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// It is answered, in its turn.
    InTurn,
    /// It is not answered: `acks=0`.
    Never,
}

#[derive(Debug)]
struct Slot<R> {
    id: RequestId,
    response: Option<(R, usize)>,
}

/// One connection's requests in flight. `K` is what requests touch, `R` a response.
#[derive(Debug)]
pub struct Connection<K, R> {
    limits: Limits,
    order: Order<K>,
    slots: VecDeque<Slot<R>>,
    /// Requests in flight that have no slot, ascending.
    silent: VecDeque<RequestId>,
    /// Bytes of complete responses still in their slots.
    complete_bytes: usize,
    /// Bytes popped and not yet sent.
    writing_bytes: usize,
    /// When bytes were last taken by the kernel, or writing began.
    write_progress_ms: u64,
    active_ms: u64,
    draining: bool,
    closed: Option<CloseReason>,
}

impl<K: Clone + Eq + Hash, R> Connection<K, R> {
    /// A connection just accepted.
    ///
    /// # Panics
    /// If a limit is zero.
    #[must_use]
    pub fn new(now_ms: u64, limits: Limits) -> Self {
        assert!(limits.in_flight_max > 0 && limits.unsent_bytes_max > 0, "a connection must get somewhere");
        assert!(limits.stalled_ms_max > 0 && limits.idle_ms_max > 0);
        Self {
            limits,
            order: Order::default(),
            slots: VecDeque::new(),
            silent: VecDeque::new(),
            complete_bytes: 0,
            writing_bytes: 0,
            write_progress_ms: now_ms,
            active_ms: now_ms,
            draining: false,
            closed: None,
        }
    }

    /// Whether another request may be read from the socket.
    #[must_use]
    pub fn can_read(&self) -> bool {
        self.closed.is_none()
            && !self.draining
            && self.in_flight() < self.limits.in_flight_max
            && self.unsent_bytes() < self.limits.unsent_bytes_max
    }

    /// Requests that were opened and whose response has not left, or that are silent and not complete.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots.len() + self.silent.len()
    }

    /// Bytes of responses complete and not yet sent.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.complete_bytes + self.writing_bytes
    }

    /// Says that bytes came from the client: it is not idle, though its request is not whole yet.
    pub fn received(&mut self, now_ms: u64) {
        self.active_ms = now_ms;
    }

    /// Takes a request in. `keys` are what it touches; repeats are allowed, the stronger access counts.
    ///
    /// # Panics
    /// If [`Connection::can_read`] is false.
    pub fn open(
        &mut self,
        now_ms: u64,
        response: Response,
        keys: impl IntoIterator<Item = (K, Access)>,
    ) -> Opened {
        assert!(self.can_read(), "a request is read only when there is room for it");
        self.active_ms = now_ms;
        let (id, ready) = self.order.open(keys);
        match response {
            Response::InTurn => self.slots.push_back(Slot { id, response: None }),
            Response::Never => self.silent.push_back(id),
        }
        Opened { id, ready }
    }

    /// Whether the order of every request's effect is fixed. If so, and the next request settles in the same step
    /// as it is opened, it may be opened without naming its keys: nobody is there to be ordered against. That
    /// is the hot path, and costs it no look-up.
    #[must_use]
    pub fn all_settled(&self) -> bool {
        self.order.all_settled()
    }

    /// Says that the order of a request's effect is fixed, and appends to `ready` the requests that may start
    /// now, in the order sent.
    ///
    /// # Panics
    /// If the request has not started, or is settled already.
    pub fn settle(&mut self, id: RequestId, ready: &mut Vec<RequestId>) {
        if self.closed.is_none() {
            self.order.settle(id, ready);
        }
    }

    /// Takes the response of a request, of `bytes` bytes. A response that comes after the close is dropped.
    ///
    /// # Panics
    /// If the request has no slot (it is silent, or was completed and answered), or is not settled: nothing is
    /// answered whose place in the order is open.
    pub fn complete(&mut self, id: RequestId, response: R, bytes: usize) {
        if self.closed.is_some() {
            return;
        }
        assert!(!self.order.is_unsettled(id), "a request is settled before it is answered");
        let at = self.slots.partition_point(|slot| slot.id < id);
        let slot = self.slots.get_mut(at).filter(|slot| slot.id == id).expect("an open slot is completed");
        assert!(slot.response.is_none(), "a request is answered once");
        slot.response = Some((response, bytes));
        self.complete_bytes += bytes;
    }

    /// Ends a request that has no response. After a failure of it the shell calls [`Connection::close`] with
    /// [`CloseReason::SilentRequestFailed`] instead.
    ///
    /// # Panics
    /// If the request is not silent, has ended already, or is not settled.
    pub fn complete_silent(&mut self, id: RequestId) {
        if self.closed.is_some() {
            return;
        }
        assert!(!self.order.is_unsettled(id), "a request is settled before it ends");
        let at = self.silent.binary_search(&id).expect("only a silent request in flight ends in silence");
        self.silent.remove(at);
    }

    /// The request whose response is the next to leave.
    #[must_use]
    pub fn next(&self) -> Option<RequestId> {
        self.slots.front().map(|slot| slot.id)
    }

    /// Whether [`Connection::pop_ready`] has a response.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.slots.front().is_some_and(|slot| slot.response.is_some())
    }

    /// The next response in the order of the requests, if it is complete. The shell writes it and reports every
    /// byte with [`Connection::sent`].
    pub fn pop_ready(&mut self, now_ms: u64) -> Option<R> {
        self.slots.front()?.response.as_ref()?;
        let (response, bytes) = self.slots.pop_front()?.response?;
        if self.writing_bytes == 0 {
            self.write_progress_ms = now_ms;
        }
        self.complete_bytes -= bytes;
        self.writing_bytes += bytes;
        self.active_ms = now_ms;
        Some(response)
    }

    /// Says that the kernel took so many bytes of popped responses.
    ///
    /// # Panics
    /// If they are more than were popped.
    pub fn sent(&mut self, now_ms: u64, bytes: usize) {
        if self.closed.is_some() {
            return;
        }
        assert!(bytes <= self.writing_bytes, "only popped responses are sent");
        if bytes > 0 {
            self.writing_bytes -= bytes;
            self.write_progress_ms = now_ms;
            self.active_ms = now_ms;
        }
    }

    /// When [`Connection::on_time`] must be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.closed.is_some() {
            return None;
        }
        if self.writing_bytes > 0 {
            return Some(self.write_progress_ms.saturating_add(self.limits.stalled_ms_max));
        }
        (self.in_flight() == 0).then_some(self.active_ms.saturating_add(self.limits.idle_ms_max))
    }

    /// Closes the connection if its client reads nothing, or if it is idle for too long, and says so.
    pub fn on_time(&mut self, now_ms: u64) -> Option<CloseReason> {
        if now_ms < self.next_deadline()? {
            return None;
        }
        let reason = if self.writing_bytes > 0 { CloseReason::NotReading } else { CloseReason::Idle };
        self.close(reason);
        Some(reason)
    }

    /// Reads no more requests; what is in flight is still answered. For a clean stop.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether a drained connection has nothing left to say.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining && self.in_flight() == 0 && self.unsent_bytes() == 0
    }

    /// Ends the connection: unsent responses and waiting requests are dropped, requests that started run on and
    /// what they report is ignored. The first reason stays.
    pub fn close(&mut self, reason: CloseReason) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(reason);
        self.order = Order::default();
        self.slots = VecDeque::new();
        self.silent = VecDeque::new();
        self.complete_bytes = 0;
        self.writing_bytes = 0;
    }

    /// Why the connection was closed, if it was.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Asserts every invariant.
    pub fn check(&self) {
        self.order.check();
        assert!(self.in_flight() <= self.limits.in_flight_max);
        assert!(self.slots.iter().zip(self.slots.iter().skip(1)).all(|(a, b)| a.id < b.id));
        let complete: usize = self.slots.iter().filter_map(|slot| Some(slot.response.as_ref()?.1)).sum();
        assert_eq!(complete, self.complete_bytes);
        if self.closed.is_some() {
            assert_eq!((self.in_flight(), self.unsent_bytes()), (0, 0));
        }
    }
}

#[cfg(test)]
mod tests;
