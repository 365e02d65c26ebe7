//! A shard's mailbox: any thread may put a message in, the shard takes them out in order. Messages of one sender
//! keep their order, which is what keeps forwarded requests in the order of their connection; and what is sent because
//! of another message comes behind it, which keeps a new image behind the requests sent before it was proposed.

use super::perturb::Queue;
use atomic_waker::AtomicWaker;
use std::future::poll_fn;
use std::task::Poll;

/// See the module's documentation. What is in it is bounded by the budgets of those who send: a forwarded request
/// holds its reservation until it is answered.
pub struct Mailbox<T> {
    messages: Queue<T>,
    owner: AtomicWaker,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Mailbox<T> {
        Mailbox { messages: Queue::default(), owner: AtomicWaker::new() }
    }
}

impl<T> Mailbox<T> {
    /// Puts a message in and wakes the owner.
    pub fn send(&self, message: T) {
        self.messages.push(message);
        self.owner.wake();
    }

    /// Whether there is a message. Any thread may ask.
    pub fn has_mail(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Takes the next message, if there is one.
    pub fn try_receive(&self) -> Option<T> {
        self.messages.pop()
    }

    /// Waits for the next message. There is one receiver.
    pub async fn receive(&self) -> T {
        poll_fn(|cx| {
            if let Some(message) = self.messages.pop() {
                return Poll::Ready(message);
            }
            self.owner.register(cx.waker());
            // A message may have come between the look and the registration.
            self.messages.pop().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
