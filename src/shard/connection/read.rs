//! The reading half: bytes become frames, frames are charged to the budget of their class and dispatched.

use super::Conn;
use crate::machine::budget::{Class, Reservation};
use crate::machine::connection::CloseReason;
use crate::shard::Shard;
use bytes::{Buf, Bytes};
use ringlog_net::frame::{self, FrameLimits, Scan};
use std::io::{ErrorKind, Read};
use std::rc::Rc;

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

pub(super) async fn read_loop(shard: &Rc<Shard>, conn: &Rc<Conn>) {
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
async fn after_stop(shard: &Rc<Shard>, conn: &Rc<Conn>, mut rest: Bytes, mut stop: Stop) -> Option<Unread> {
    loop {
        match stop {
            Stop::Closed => return None,
            Stop::Need(_) if rest.is_empty() => return Some(Unread::None),
            Stop::Need(need) => {
                let reservation = match shard.reserve(conn, class_of(&rest), need) {
                    Some(reservation) => reservation,
                    None => conn.granted().await?,
                };
                let mut buffer = vec![0; need];
                buffer[..rest.len()].copy_from_slice(&rest);
                return Some(Unread::Partial { buffer, filled: rest.len(), reservation });
            }
            Stop::NoRoom => return Some(Unread::Held(rest)),
            Stop::NoBudget => {
                let reservation = conn.granted().await?;
                conn.room().await;
                let (done, again) = handle_frames(shard, conn, &rest, Some(&rest), Some(reservation));
                shard.pump();
                (rest, stop) = (rest.slice(done..), again);
            }
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
