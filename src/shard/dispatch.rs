//! A frame becomes a request that takes effect in its turn.

use crate::api::table::{self, Api, Kind, Order};
use crate::clock::monotonic_ms;
use crate::machine::budget::{Class, Reservation};
use crate::machine::connection::{Access, CloseReason, RequestId, Response as Slot};
use crate::shard::connection::{Conn, OrderKey, Response, Waiting};
use crate::shard::handlers;
use crate::shard::perturb::{Rule, Step, pause, undone};
use crate::shard::{Context, Shard};
use bytes::Bytes;
use ringlog_net::fetch::FetchRequest;
use ringlog_net::frame::{FrameLimits, RequestHead};
use ringlog_net::produce::ProduceRequest;
use std::collections::VecDeque;
use std::fmt::Display;
use std::rc::Rc;

impl Shard {
    /// How long frames may be.
    pub fn frame_limits(&self) -> FrameLimits {
        let config = self.config.borrow();
        FrameLimits {
            produce_bytes_max: config.request_max_bytes as usize,
            other_bytes_max: config.small_request_max_bytes.min(config.request_max_bytes) as usize,
        }
    }

    /// Reserves memory for a frame, or puts the connection in line for it.
    pub fn reserve(&self, conn: &Rc<Conn>, class: Class, bytes: usize) -> Option<Reservation> {
        let reserved = self.budget.borrow_mut().try_reserve(class, conn.id, bytes);
        if reserved.is_none() {
            self.counters.budget_waits.increment();
        }
        reserved
    }

    /// Gives memory back, and to those whose turn has come.
    pub fn release(&self, reservation: Reservation) {
        let mut granted = Vec::new();
        self.budget.borrow_mut().release(reservation, &mut granted);
        granted.into_iter().for_each(|grant| self.release_or_grant(grant));
    }

    /// Gives a part of some memory back, and to those whose turn has come.
    pub fn shrink(&self, reservation: &mut Reservation, bytes: usize) {
        let mut granted = Vec::new();
        self.budget.borrow_mut().shrink(reservation, bytes, &mut granted);
        granted.into_iter().for_each(|grant| self.release_or_grant(grant));
    }

    /// Closes a connection whose bytes make no sense, with one line that says whose and why.
    pub fn malformed(&self, conn: &Conn, cause: &dyn Display) {
        self.counters.malformed_frames.increment();
        tracing::warn!("closing {}: {cause}", conn.peer);
        conn.close(CloseReason::Malformed);
    }

    /// Takes a whole request: it starts now, or when those before it that touch the same are settled.
    pub fn take_request(
        self: &Rc<Self>,
        conn: &Rc<Conn>,
        request: &[u8],
        shared: Option<&Bytes>,
        reservation: Reservation,
    ) {
        self.counters.requests.increment();
        let head = match RequestHead::parse(request) {
            Ok(head) => head,
            Err(error) => {
                self.malformed(conn, &error);
                return self.release(reservation);
            }
        };
        let Some(api) = table::find(head.api_key).filter(|api| is_served(api, head.api_version)) else {
            let (key, version) = (head.api_key, head.api_version);
            self.malformed(conn, &format_args!("API key {key} version {version} is not served"));
            return self.release(reservation);
        };
        let produce = match decode_produce(api.kind, &head, request) {
            Ok(produce) => produce,
            Err(error) => {
                self.malformed(conn, &error);
                return self.release(reservation);
            }
        };
        let slot = if produce.as_ref().is_some_and(|p| p.acks == 0) { Slot::Never } else { Slot::InTurn };
        let access = match api.order {
            Order::Metadata => Access::Exclusive,
            Order::Free => Access::Shared,
        };
        let opened = {
            let mut machine = conn.machine.borrow_mut();
            if machine.all_settled() && access == Access::Shared {
                machine.open(monotonic_ms(), slot, [])
            } else {
                machine.open(monotonic_ms(), slot, [(OrderKey::Metadata, access)])
            }
        };
        if opened.ready {
            self.start_request(conn, opened.id, api.kind, &head, produce, request, shared, reservation);
        } else {
            let frame = shared.map_or_else(|| Bytes::copy_from_slice(request), |all| all.slice_ref(request));
            conn.waiting
                .borrow_mut()
                .push_back((opened.id, Waiting { frame, memory: self.hold(reservation) }));
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn start_request(
        self: &Rc<Self>,
        conn: &Rc<Conn>,
        id: RequestId,
        kind: Kind,
        head: &RequestHead<'_>,
        produce: Option<ProduceRequest<'_>>,
        request: &[u8],
        shared: Option<&Bytes>,
        reservation: Reservation,
    ) {
        let body = &request[head.body_at..];
        match kind {
            Kind::Produce => {
                let produce = produce.expect("a produce request is decoded before it is started");
                self.settle(conn, id);
                self.produce(conn, id, head, &produce, shared, reservation);
            }
            Kind::Fetch => match FetchRequest::decode(head.api_version, body) {
                Ok(fetch) => {
                    self.settle(conn, id);
                    self.fetch(conn, id, head, &fetch, self.hold(reservation));
                }
                Err(error) => {
                    self.malformed(conn, &error);
                    self.release(reservation);
                }
            },
            kind => {
                let body = shared.map_or_else(|| Bytes::copy_from_slice(body), |all| all.slice_ref(body));
                self.start_handler(conn, id, kind, head, body, reservation);
            }
        }
    }

    /// Starts a request that has a handler of its own. Those that go alone settle when they are done; the others
    /// start in order among themselves, and nothing that comes after them undoes what they read.
    fn start_handler(
        self: &Rc<Self>,
        conn: &Rc<Conn>,
        id: RequestId,
        kind: Kind,
        head: &RequestHead<'_>,
        body: Bytes,
        reservation: Reservation,
    ) {
        let context = Context {
            api_key: head.api_key,
            api_version: head.api_version,
            correlation_id: head.correlation_id,
            client_id: head.client_id.map(str::to_owned),
            client_host: format!("/{}", conn.peer.ip()),
            connection: conn.id,
        };
        let api = table::find(head.api_key).expect("only what is in the table is started");
        let (exclusive, served) =
            (api.order == Order::Metadata && !undone(Rule::MetadataAlone), api.serves(head.api_version));
        if !exclusive {
            self.settle(conn, id);
        }
        // These wait for minutes, for other members; what they hold meanwhile is the group's, not the frame.
        let reservation = match kind {
            Kind::JoinGroup | Kind::SyncGroup => {
                self.release(reservation);
                None
            }
            _ => Some(reservation),
        };
        let (shard, conn) = (Rc::clone(self), Rc::clone(conn));
        glommio::spawn_local(async move {
            if undone(Rule::HandlersInOrder) {
                pause(Step::Answer).await;
            }
            let answer = if kind == Kind::ApiVersions && !served {
                handlers::unsupported_api_versions(context.correlation_id)
            } else {
                handlers::handle(Rc::clone(&shard), context, kind, body).await
            };
            if let Some(reservation) = reservation {
                shard.release(reservation);
            }
            if exclusive {
                shard.settle(&conn, id);
            }
            match answer {
                Ok(frame) => conn.complete(id, Response::Bytes(frame)),
                Err(error) => shard.malformed(&conn, &error),
            }
            shard.pump();
        })
        .detach();
    }

    /// The order of a request's effect is fixed: those behind it may start. Where this is called while another one of
    /// those that waited is being started, they start when that is done: a request settles before it takes effect,
    /// and the first step of a task is taken as it is spawned.
    fn settle(self: &Rc<Self>, conn: &Rc<Conn>, id: RequestId) {
        let mut ready = Vec::new();
        conn.machine.borrow_mut().settle(id, &mut ready);
        if let Some(starting) = &mut *conn.starting.borrow_mut() {
            return starting.extend(ready);
        }
        if ready.is_empty() {
            return;
        }
        *conn.starting.borrow_mut() = Some(ready.into());
        loop {
            let next = conn.starting.borrow_mut().as_mut().and_then(VecDeque::pop_front);
            let Some(id) = next else { break };
            self.start_waiting(conn, id);
        }
        *conn.starting.borrow_mut() = None;
    }

    /// Starts a request that waited for its turn. It is gone where its connection was closed.
    fn start_waiting(self: &Rc<Self>, conn: &Rc<Conn>, id: RequestId) {
        let waiting = {
            let mut waiting = conn.waiting.borrow_mut();
            let at = waiting.iter().position(|(other, _)| *other == id);
            at.and_then(|at| waiting.remove(at))
        };
        let Some((id, Waiting { frame, memory })) = waiting else { return };
        let Some(reservation) = memory.into_reservation() else { return };
        let head = RequestHead::parse(&frame).expect("it was parsed when it came");
        let api = table::find(head.api_key).expect("it was found when it came");
        let produce = decode_produce(api.kind, &head, &frame).expect("it was decoded when it came");
        self.start_request(conn, id, api.kind, &head, produce, &frame, Some(&frame), reservation);
    }
}

/// Whether a request is answered: any version of ApiVersions is, the others only if they are served.
fn is_served(api: &Api, version: i16) -> bool {
    api.kind == Kind::ApiVersions || api.serves(version)
}

/// A produce request, decoded; none where it is another one.
fn decode_produce<'a>(
    kind: Kind,
    head: &RequestHead<'_>,
    request: &'a [u8],
) -> Result<Option<ProduceRequest<'a>>, ringlog_net::GuardError> {
    if kind != Kind::Produce {
        return Ok(None);
    }
    ProduceRequest::decode(head.api_version, &request[head.body_at..]).map(Some)
}
