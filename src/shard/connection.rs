//! One client connection: frames are read and dispatched, responses are written in the order of the requests.
//!
//! An idle connection holds no buffer. Bytes are read into the shard's scratch; frames that are whole there are
//! handled in place. One that is not gets a buffer of its exact, bounded size, once the budget of its class has
//! room; until then the socket is not read, and TCP pushes back.

use crate::clock::monotonic_ms;
use crate::machine::budget::{Class, Reservation};
use crate::machine::connection::{CloseReason, Connection, Limits, RequestId};
use crate::shard::Shard;
use crate::shard::memory::Held;
use crate::shard::records::RecordHandle;
use crate::shard::watch::Signal;
use bytes::{Buf, Bytes};
use glommio::io::PollableFd;
use ringlog_net::fetch::Part;
use ringlog_net::frame::{self, FrameLimits, Scan};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

/// Bytes read at a time into the shard's scratch.
pub const SCRATCH_BYTES: usize = 256 << 10;
/// Slices handed to one vectored write (Linux: at most 1,024).
const WRITE_SLICES_MAX: usize = 256;

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
            reader: Cell::default(),
            writer: Cell::default(),
        }
    }

    /// Takes a response; it leaves in its turn.
    pub fn complete(&self, id: RequestId, response: Response) {
        let bytes = match &response {
            Response::Bytes(bytes) => bytes.len(),
            Response::Parts(parts, _) => parts.iter().map(part_len).sum(),
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

/// What of the received bytes is not handled yet.
enum Unread {
    /// Nothing.
    None,
    /// Bytes that stand where they were received; the front is a frame that may not be whole.
    Held(Bytes),
    /// A frame of `need` bytes that is being received into a buffer of its own.
    Partial { buffer: Vec<u8>, filled: usize, reservation: Reservation },
}

/// Why handling stopped before the bytes ended.
enum Stop {
    /// The front frame needs this many bytes in all.
    Need(usize),
    /// No more requests may be taken now.
    NoRoom,
    /// The budget is spent; the front frame, of this many bytes, waits in line.
    NoBudget,
    /// The connection is closed.
    Closed,
}

/// Serves a connection until it ends.
pub async fn serve(shard: Rc<Shard>, conn: Rc<Conn>) {
    let writer = glommio::spawn_local(write_loop(Rc::clone(&shard), Rc::clone(&conn))).detach();
    read_loop(&shard, &conn).await;
    writer.await;
    shard.connection_ended(&conn);
}

async fn read_loop(shard: &Rc<Shard>, conn: &Rc<Conn>) {
    let mut unread = Unread::None;
    loop {
        unread = match unread {
            Unread::Partial { .. } => match fill(shard, conn, unread).await {
                Some(unread) => unread,
                None => return,
            },
            Unread::Held(bytes) => match handle_held(shard, conn, bytes).await {
                Some(unread) => unread,
                None => return,
            },
            Unread::None => match read_scratch(shard, conn).await {
                Some(unread) => unread,
                None => return,
            },
        };
    }
}

/// Reads once and handles what came. `None` when the connection ended.
async fn read_scratch(shard: &Rc<Shard>, conn: &Rc<Conn>) -> Option<Unread> {
    conn.room().await;
    let outcome = {
        let mut scratch = shard.scratch.borrow_mut();
        match conn.socket.get_ref().read(&mut scratch[..]) {
            Ok(0) => Err(Some(CloseReason::Client)),
            Ok(n) => {
                let received = &scratch[..n];
                let (done, stop) = handle_frames(shard, conn, received, None, None);
                Ok((Bytes::copy_from_slice(&received[done..]), stop))
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Err(None),
            Err(e) if e.kind() == ErrorKind::Interrupted => return Some(Unread::None),
            Err(_) => Err(Some(CloseReason::Broken)),
        }
    };
    match outcome {
        Ok((rest, stop)) => {
            shard.pump();
            // A client that always has more to say does not keep the others from being heard.
            glommio::yield_if_needed().await;
            after_stop(shard, conn, rest, stop).await
        }
        Err(Some(reason)) => {
            conn.close(reason);
            None
        }
        Err(None) => {
            if conn.is_closed() || conn.socket.readable().await.is_err() {
                conn.close(CloseReason::Broken);
                return None;
            }
            shard.pulse.beat();
            Some(Unread::None)
        }
    }
}

/// Goes on with bytes that are held.
async fn handle_held(shard: &Rc<Shard>, conn: &Rc<Conn>, mut bytes: Bytes) -> Option<Unread> {
    conn.room().await;
    let (done, stop) = handle_frames(shard, conn, &bytes, Some(&bytes), None);
    shard.pump();
    bytes.advance(done);
    after_stop(shard, conn, bytes, stop).await
}

/// What to do next, after handling stopped with `rest` left over.
async fn after_stop(shard: &Rc<Shard>, conn: &Rc<Conn>, rest: Bytes, stop: Stop) -> Option<Unread> {
    match stop {
        Stop::Closed => None,
        Stop::Need(_) if rest.is_empty() => Some(Unread::None),
        Stop::Need(need) => {
            let reservation = match shard.reserve(conn, class_of(&rest), need) {
                Some(reservation) => reservation,
                None => conn.granted().await?,
            };
            let mut buffer = vec![0; need];
            buffer[..rest.len()].copy_from_slice(&rest);
            Some(Unread::Partial { buffer, filled: rest.len(), reservation })
        }
        Stop::NoRoom => Some(Unread::Held(rest)),
        Stop::NoBudget => {
            let reservation = conn.granted().await?;
            conn.room().await;
            let (done, stop) = handle_frames(shard, conn, &rest, Some(&rest), Some(reservation));
            shard.pump();
            // Boxed, for it may come back here as often as the budget is spent.
            Box::pin(after_stop(shard, conn, rest.slice(done..), stop)).await
        }
    }
}

/// Receives more of a frame that has a buffer of its own.
async fn fill(shard: &Rc<Shard>, conn: &Rc<Conn>, unread: Unread) -> Option<Unread> {
    let Unread::Partial { mut buffer, mut filled, reservation } = unread else { return Some(unread) };
    while filled < buffer.len() {
        match conn.socket.get_ref().read(&mut buffer[filled..]) {
            Ok(0) => {
                shard.release(reservation);
                conn.close(CloseReason::Client);
                return None;
            }
            Ok(n) => {
                filled += n;
                glommio::yield_if_needed().await;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock && !conn.is_closed() => {
                if conn.socket.readable().await.is_err() {
                    shard.release(reservation);
                    conn.close(CloseReason::Broken);
                    return None;
                }
            }
            Err(_) => {
                shard.release(reservation);
                conn.close(CloseReason::Broken);
                return None;
            }
        }
    }
    let scan = frame::scan(&buffer, &shard.frame_limits());
    if let Ok(Scan::Need(need)) = scan
        && need > buffer.len()
    {
        // Only the beginning was known when the buffer was made: the rest is charged before there is room for it.
        shard.release(reservation);
        return Box::pin(after_stop(shard, conn, Bytes::from(buffer), Stop::Need(need))).await;
    }
    conn.room().await;
    let bytes = Bytes::from(buffer);
    let (done, stop) = handle_frames(shard, conn, &bytes, Some(&bytes), Some(reservation));
    shard.pump();
    after_stop(shard, conn, bytes.slice(done..), stop).await
}

/// Handles whole frames from the front of `received` and says how many bytes that were and why it stopped.
/// `shared` is the same bytes where they can be kept without a copy; `reservation` is the front frame's.
fn handle_frames(
    shard: &Rc<Shard>,
    conn: &Rc<Conn>,
    received: &[u8],
    shared: Option<&Bytes>,
    mut reservation: Option<Reservation>,
) -> (usize, Stop) {
    let limits: FrameLimits = shard.frame_limits();
    let mut done = 0;
    let stop = loop {
        if conn.is_closed() {
            break Stop::Closed;
        }
        let rest = &received[done..];
        let len = match frame::scan(rest, &limits) {
            Ok(Scan::Frame { len }) => len,
            Ok(Scan::Need(need)) => break Stop::Need(need),
            Err(error) => {
                shard.malformed(conn, &error);
                break Stop::Closed;
            }
        };
        if !conn.machine.borrow().can_read() {
            break Stop::NoRoom;
        }
        let Some(reserved) = reservation.take().or_else(|| shard.reserve(conn, class_of(rest), len)) else {
            break Stop::NoBudget;
        };
        let request = &rest[frame::LENGTH_BYTES..len];
        shard.take_request(conn, request, shared, reserved);
        done += len;
    };
    if let Some(reservation) = reservation {
        shard.release(reservation);
    }
    (done, stop)
}

/// The budget class of the frame at the front, by its API key.
fn class_of(frame: &[u8]) -> Class {
    match frame.get(frame::LENGTH_BYTES..frame::LENGTH_BYTES + 2) {
        Some([0, 0]) => Class::Produce,
        _ => Class::Requests,
    }
}

fn part_len(part: &Part<RecordHandle>) -> usize {
    match part {
        Part::Bytes(bytes) => bytes.len(),
        Part::Records(records) => records.as_bytes().len(),
    }
}

fn part_bytes(part: &Part<RecordHandle>) -> &[u8] {
    match part {
        Part::Bytes(bytes) => bytes,
        Part::Records(records) => records.as_bytes(),
    }
}

/// A piece on its way to the socket. The last one of a response gives its memory back.
struct Outgoing {
    part: Part<RecordHandle>,
    _held: Option<Held>,
}

async fn write_loop(shard: Rc<Shard>, conn: Rc<Conn>) {
    let mut out: VecDeque<Outgoing> = VecDeque::new();
    let mut sent_of_front = 0;
    loop {
        gather(&conn, &mut out);
        if out.is_empty() {
            let over = std::future::poll_fn(|cx| {
                let machine = conn.machine.borrow();
                if machine.closed().is_some() || machine.is_drained() {
                    return Poll::Ready(true);
                }
                if machine.has_ready() {
                    return Poll::Ready(false);
                }
                conn.writer.set(Some(cx.waker().clone()));
                Poll::Pending
            })
            .await;
            if over {
                let _ = conn.socket.get_ref().shutdown(std::net::Shutdown::Both);
                conn.close(CloseReason::Shutdown);
                return;
            }
            continue;
        }
        match write_some(&conn, &out, sent_of_front) {
            Ok(n) => {
                sent_of_front = drop_sent(&mut out, sent_of_front + n);
                conn.machine.borrow_mut().sent(monotonic_ms(), n);
                conn.wake_reader();
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                if conn.is_closed() || conn.socket.writable().await.is_err() {
                    conn.close(CloseReason::Broken);
                    return;
                }
                shard.pulse.beat();
            }
            Err(_) => {
                // EFAULT included: a mapped range could not be read. The client cannot be told in mid-response.
                conn.close(CloseReason::Broken);
                return;
            }
        }
    }
}

/// Takes the responses whose turn it is.
fn gather(conn: &Conn, out: &mut VecDeque<Outgoing>) {
    let mut machine = conn.machine.borrow_mut();
    while out.len() < WRITE_SLICES_MAX {
        let Some(response) = machine.pop_ready(monotonic_ms()) else { break };
        match response {
            Response::Bytes(bytes) => out.push_back(Outgoing { part: Part::Bytes(bytes), _held: None }),
            Response::Parts(parts, held) => {
                let full = parts.into_iter().filter(|part| part_len(part) > 0);
                out.extend(full.map(|part| Outgoing { part, _held: None }));
                if let Some(last) = out.back_mut() {
                    last._held = held;
                }
            }
        }
    }
}

fn write_some(conn: &Conn, out: &VecDeque<Outgoing>, skip: usize) -> std::io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
    let mut count = 0;
    for (slot, outgoing) in slices.iter_mut().zip(out) {
        let bytes = part_bytes(&outgoing.part);
        *slot = IoSlice::new(if count == 0 { &bytes[skip..] } else { bytes });
        count += 1;
    }
    match conn.socket.get_ref().write_vectored(&slices[..count]) {
        Ok(0) => Err(ErrorKind::WriteZero.into()),
        other => other,
    }
}

/// Drops what was sent and returns how much of the new front was.
fn drop_sent(out: &mut VecDeque<Outgoing>, mut sent: usize) -> usize {
    while let Some(front) = out.front() {
        let len = part_len(&front.part);
        if sent < len {
            return sent;
        }
        sent -= len;
        out.pop_front();
    }
    assert_eq!(sent, 0, "no more is sent than there was");
    0
}
