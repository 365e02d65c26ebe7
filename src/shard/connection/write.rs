//! The writing half: responses whose turn it is leave in vectored writes.

use super::{Conn, Response};
use crate::clock::monotonic_ms;
use crate::machine::connection::CloseReason;
use crate::shard::Shard;
use crate::shard::memory::Held;
use crate::shard::records::RecordHandle;
use ringlog_net::fetch::Part;
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Write};
use std::rc::Rc;
use std::task::Poll;

/// Slices handed to one vectored write (Linux: at most 1,024).
const WRITE_SLICES_MAX: usize = 256;

pub(super) fn part_len(part: &Part<RecordHandle>) -> usize {
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

pub(super) async fn write_loop(shard: Rc<Shard>, conn: Rc<Conn>) {
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
    while out.len() < WRITE_SLICES_MAX {
        let popped = conn.machine.borrow_mut().pop_ready(monotonic_ms());
        let Some(response) = popped else { break };
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
    conn.next_turn();
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
