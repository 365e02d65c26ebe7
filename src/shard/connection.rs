//! One client connection: frames are read and dispatched, responses are written in the order of the requests.
//!
//! An idle connection holds no buffer. Bytes are read into the shard's scratch; frames that are whole there are
//! handled in place. One that is not gets a buffer of its exact, bounded size, once the budget of its class has
//! room; until then the socket is not read, and TCP pushes back.

mod read;
mod write;

use crate::clock::monotonic_ms;
use crate::machine::budget::Reservation;
use crate::machine::connection::{CloseReason, Connection, Limits, RequestId};
use crate::shard::Shard;
use crate::shard::memory::Held;
use crate::shard::records::RecordHandle;
use crate::shard::watch::Signal;
use bytes::Bytes;
use glommio::io::PollableFd;
use ringlog_net::fetch::Part;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

/// Bytes read at a time into the shard's scratch.
pub const SCRATCH_BYTES: usize = 256 << 10;

/// What requests of a connection are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderKey {
    /// Everything depends on the metadata; what changes them goes alone.
    Metadata,
}

/// A response ready to be sent.
pub enum Response {
    /// One piece.
    Bytes(Bytes),
    /// Several, records among them, and the memory that they hold.
    Parts(Vec<Part<RecordHandle>>, Option<Held>),
}

/// A request that waits for its turn.
pub struct Waiting {
    /// The whole frame, without its length.
    pub frame: Bytes,
    /// Its memory.
    pub memory: Held,
}

/// See the module's documentation.
pub struct Conn {
    /// Unique on its shard.
    pub id: u64,
    /// The client.
    pub peer: SocketAddr,
    socket: PollableFd<TcpStream>,
    /// Order, slots and caps.
    pub machine: RefCell<Connection<OrderKey, Response>>,
    /// Requests opened that may not start yet.
    pub waiting: RefCell<VecDeque<(RequestId, Waiting)>>,
    /// Those of them that may start now, while one is being started.
    pub starting: RefCell<Option<VecDeque<RequestId>>>,
    /// Reservation granted after waiting for it.
    granted: RefCell<Option<Reservation>>,
    /// Set when the connection is closed.
    alarms: RefCell<Vec<Weak<Signal>>>,
    /// Requests that wait until theirs is the next response to leave, ascending.
    turns: RefCell<VecDeque<(RequestId, Rc<Signal>)>>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
}

impl Conn {
    /// A connection just accepted, its socket non-blocking.
    pub fn new(id: u64, peer: SocketAddr, socket: PollableFd<TcpStream>, limits: Limits) -> Conn {
        Conn {
            id,
            peer,
            socket,
            machine: RefCell::new(Connection::new(monotonic_ms(), limits)),
            waiting: RefCell::default(),
            starting: RefCell::default(),
            granted: RefCell::default(),
            alarms: RefCell::default(),
            turns: RefCell::default(),
            reader: Cell::default(),
            writer: Cell::default(),
        }
    }

    /// Takes a response; it leaves in its turn.
    pub fn complete(&self, id: RequestId, response: Response) {
        let bytes = match &response {
            Response::Bytes(bytes) => bytes.len(),
            Response::Parts(parts, _) => parts.iter().map(write::part_len).sum(),
        };
        self.machine.borrow_mut().complete(id, response, bytes);
        self.wake_writer();
    }

    /// Ends a request that has no response.
    pub fn complete_silent(&self, id: RequestId) {
        self.machine.borrow_mut().complete_silent(id);
        // There is room for another request, and nothing is written that would say so. A drained connection may
        // be done.
        self.wake_reader();
        self.wake_writer();
    }

    /// Has a signal set when the connection is closed, so that who waits for something else on its behalf ends.
    pub fn alarm(&self, signal: &Rc<Signal>) {
        let mut alarms = self.alarms.borrow_mut();
        alarms.retain(|other| other.strong_count() > 0);
        alarms.push(Rc::downgrade(signal));
    }

    /// Waits until a request's response is the next to leave, or the connection is closed.
    pub async fn turn(&self, id: RequestId) {
        let comes = |conn: &Conn| conn.is_closed() || conn.machine.borrow().next() == Some(id);
        if comes(self) {
            return;
        }
        let signal = Rc::new(Signal::default());
        {
            let mut turns = self.turns.borrow_mut();
            let at = turns.partition_point(|(other, _)| *other < id);
            turns.insert(at, (id, Rc::clone(&signal)));
        }
        signal.wait().await;
        assert!(comes(self), "woken only in its turn");
    }

    /// Responses have left: the next one may have waited for its turn.
    fn next_turn(&self) {
        let next = self.machine.borrow().next();
        let mut turns = self.turns.borrow_mut();
        if next.is_some()
            && turns.front().map(|(id, _)| *id) == next
            && let Some((_, signal)) = turns.pop_front()
        {
            signal.set();
        }
    }

    /// Closes the connection; what is late is dropped.
    pub fn close(&self, reason: CloseReason) {
        self.machine.borrow_mut().close(reason);
        // Dropped with nothing borrowed: their memory goes to others, who may look at this connection.
        let waiting = self.waiting.take();
        drop(waiting);
        for alarm in self.alarms.take() {
            if let Some(signal) = alarm.upgrade() {
                signal.set();
            }
        }
        self.turns.take().into_iter().for_each(|(_, signal)| signal.set());
        let _ = self.socket.get_ref().shutdown(std::net::Shutdown::Both);
        self.wake_writer();
        self.wake_reader();
    }

    /// Reads nothing more; what is in flight is answered, then it closes.
    pub fn drain(&self) {
        self.machine.borrow_mut().drain();
        self.wake_writer();
        self.wake_reader();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.machine.borrow().closed().is_some()
    }

    /// Gives the reservation that it waited for.
    pub fn grant(&self, reservation: Reservation) {
        *self.granted.borrow_mut() = Some(reservation);
        self.wake_reader();
    }

    /// A grant that came too late to be used.
    pub fn take_grant(&self) -> Option<Reservation> {
        self.granted.take()
    }

    fn wake_writer(&self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    fn wake_reader(&self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn can_go_on(&self) -> bool {
        let machine = self.machine.borrow();
        machine.can_read() || machine.closed().is_some()
    }

    /// Waits until another request may be taken, or the connection is closed.
    async fn room(&self) {
        std::future::poll_fn(|cx| {
            if self.can_go_on() {
                return Poll::Ready(());
            }
            self.reader.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Waits for the reservation that was asked for; `None` when the connection is closed.
    async fn granted(&self) -> Option<Reservation> {
        std::future::poll_fn(|cx| {
            if let Some(reservation) = self.granted.take() {
                return Poll::Ready(Some(reservation));
            }
            if self.is_closed() {
                return Poll::Ready(None);
            }
            self.reader.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

/// Serves a connection until it ends.
pub async fn serve(shard: Rc<Shard>, conn: Rc<Conn>) {
    let writer = glommio::spawn_local(write::write_loop(Rc::clone(&shard), Rc::clone(&conn))).detach();
    read::read_loop(&shard, &conn).await;
    writer.await;
    shard.connection_ended(&conn);
}
