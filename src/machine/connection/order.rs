//! Which requests of a connection may start: a queue for each key that is touched, first come first served.
//!
//! A request joins the queues of all its keys at once, so of two requests the earlier is ahead in every queue
//! they share: no cycle, hence no deadlock. It may start when it is *granted* in all of them: it is at the head,
//! or everything from the head to it is shared access.

use std::collections::VecDeque;
use std::hash::Hash;

use hashbrown::HashMap;

/// Names a request of a connection; ascending in the order sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// How a request touches a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// It reads: any number at a time, but not before earlier exclusive ones.
    Shared,
    /// It changes: only after all earlier ones, and all later ones after it.
    Exclusive,
}

#[derive(Debug)]
struct Entry {
    id: RequestId,
    access: Access,
    granted: bool,
}

#[derive(Debug)]
struct Unsettled<K> {
    id: RequestId,
    keys: Vec<K>,
    /// Keys that it is not granted yet.
    missing: usize,
}

#[derive(Debug)]
pub(super) struct Order<K> {
    next: u64,
    /// In the order sent.
    unsettled: VecDeque<Unsettled<K>>,
    queues: HashMap<K, VecDeque<Entry>, foldhash::fast::RandomState>,
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        Self { next: 0, unsettled: VecDeque::new(), queues: HashMap::default() }
    }
}

impl<K: Clone + Eq + Hash> Order<K> {
    /// Takes a request in; whether it may start.
    pub(super) fn open(&mut self, keys: impl IntoIterator<Item = (K, Access)>) -> (RequestId, bool) {
        let id = RequestId(self.next);
        self.next += 1;
        let mut request = Unsettled { id, keys: Vec::new(), missing: 0 };
        for (key, access) in keys {
            let queue = self.queues.entry(key.clone()).or_default();
            if let Some(last) = queue.back_mut().filter(|last| last.id == id) {
                last.access = last.access.max(access);
                continue;
            }
            queue.push_back(Entry { id, access, granted: false });
            request.keys.push(key);
        }
        for key in &request.keys {
            let queue = self.queues.get_mut(key).expect("it was just joined");
            let ahead = queue.len() - 1;
            let granted = ahead == 0
                || (queue[ahead].access == Access::Shared
                    && queue[ahead - 1].access == Access::Shared
                    && queue[ahead - 1].granted);
            queue[ahead].granted = granted;
            request.missing += usize::from(!granted);
        }
        let ready = request.missing == 0;
        self.unsettled.push_back(request);
        (id, ready)
    }

    pub(super) fn all_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    pub(super) fn is_unsettled(&self, id: RequestId) -> bool {
        self.position(id).is_some()
    }

    fn position(&self, id: RequestId) -> Option<usize> {
        let at = self.unsettled.partition_point(|request| request.id < id);
        self.unsettled.get(at).is_some_and(|request| request.id == id).then_some(at)
    }

    /// Takes a request that started out of its queues; those that may start now go to `ready`.
    pub(super) fn settle(&mut self, id: RequestId, ready: &mut Vec<RequestId>) {
        let at = self.position(id).expect("a request is settled once");
        let request = self.unsettled.remove(at).expect("its position was just found");
        assert_eq!(request.missing, 0, "a request starts before it is settled");
        let first = ready.len();
        for key in &request.keys {
            let queue = self.queues.get_mut(key).expect("a request is in the queues of its keys");
            queue.retain(|entry| entry.id != id);
            if queue.is_empty() {
                self.queues.remove(key);
                continue;
            }
            grant(queue, &mut self.unsettled, ready);
        }
        ready[first..].sort_unstable();
    }

    pub(super) fn check(&self) {
        let entries: usize = self.queues.values().map(VecDeque::len).sum();
        let keys: usize = self.unsettled.iter().map(|request| request.keys.len()).sum();
        assert_eq!(entries, keys);
        for queue in self.queues.values() {
            assert!(queue.front().is_some_and(|head| head.granted), "the head of a queue may always go");
            assert!(queue.iter().zip(queue.iter().skip(1)).all(|(a, b)| a.id < b.id));
        }
        for request in &self.unsettled {
            let granted = |key: &&K| self.queues[*key].iter().any(|e| e.id == request.id && e.granted);
            let missing = request.keys.len() - request.keys.iter().filter(granted).count();
            assert_eq!(request.missing, missing);
        }
        if let Some(first) = self.unsettled.front() {
            assert_eq!(first.missing, 0, "the earliest request may always go");
        }
    }
}

/// Grants the head of a queue and, while all is shared, those behind it.
fn grant<K>(queue: &mut VecDeque<Entry>, unsettled: &mut VecDeque<Unsettled<K>>, ready: &mut Vec<RequestId>) {
    for at in 0..queue.len() {
        if at > 0 && (queue[at].access == Access::Exclusive || queue[at - 1].access == Access::Exclusive) {
            break;
        }
        if queue[at].granted {
            continue;
        }
        queue[at].granted = true;
        let id = queue[at].id;
        let place = unsettled.partition_point(|request| request.id < id);
        let request = unsettled.get_mut(place).expect("whoever is queued is unsettled");
        assert_eq!(request.id, id);
        request.missing -= 1;
        if request.missing == 0 {
            ready.push(id);
        }
    }
}
