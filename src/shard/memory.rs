//! Memory of responses: what a fetch has read is charged to its class until the last byte is with the kernel.

use crate::machine::budget::{Class, Grant, Reservation};
use crate::shard::Shard;
use futures_channel::oneshot;
use std::rc::{Rc, Weak};

/// Memory held by a response. Goes back when it is dropped: the response was sent, or its connection is gone.
pub struct Held {
    shard: Weak<Shard>,
    reservation: Option<Reservation>,
}

impl Held {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.reservation.as_ref().map_or(0, Reservation::bytes)
    }

    /// Gives back what was reserved beyond `bytes`.
    pub fn shrunk(mut self, bytes: usize) -> Held {
        if let (Some(shard), Some(reservation)) = (self.shard.upgrade(), &mut self.reservation) {
            shard.shrink(reservation, bytes);
        }
        self
    }

    /// The memory itself, to be given back by hand.
    pub fn into_reservation(mut self) -> Option<Reservation> {
        self.reservation.take()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let (Some(shard), Some(reservation)) = (self.shard.upgrade(), self.reservation.take()) {
            shard.release(reservation);
        }
    }
}

impl Shard {
    /// Has a reservation go back by itself.
    pub fn hold(self: &Rc<Self>, reservation: Reservation) -> Held {
        Held { shard: Rc::downgrade(self), reservation: Some(reservation) }
    }

    /// Memory for a response of so many bytes, if there is room now; else the place in line for it.
    pub fn response_memory(self: &Rc<Self>, bytes: usize) -> Result<Held, oneshot::Receiver<Reservation>> {
        let number = self.next_number();
        let reserved = self.budget.borrow_mut().try_reserve(Class::Responses, number, bytes);
        reserved.map(|reservation| self.hold(reservation)).ok_or_else(|| {
            self.counters.budget_waits.increment();
            let (tell, told) = oneshot::channel();
            self.memory_waits.borrow_mut().insert(number, tell);
            told
        })
    }

    /// Waits for the memory that [`response_memory`](Self::response_memory) gave a place in line for.
    pub async fn awaited_memory(self: &Rc<Self>, told: oneshot::Receiver<Reservation>) -> Held {
        let reservation = told.await.expect("who waits for memory is told in the end");
        self.hold(reservation)
    }

    /// Hands memory to who waited for it, or takes it back where nobody does any more.
    pub fn release_or_grant(&self, grant: Grant<u64>) {
        let waiting = self.memory_waits.borrow_mut().remove(&grant.waiter);
        if let Some(tell) = waiting {
            if let Err(reservation) = tell.send(grant.reservation) {
                self.release(reservation);
            }
            return;
        }
        let conn = self.connections.borrow().get(&grant.waiter).cloned();
        match conn.filter(|conn| !conn.is_closed()) {
            Some(conn) => conn.grant(grant.reservation),
            None => self.release(grant.reservation),
        }
    }
}
