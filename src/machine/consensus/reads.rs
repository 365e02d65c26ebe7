//! Linearizable reads under way. Their contexts are unique in the cluster: a read of another node or of an earlier
//! run must never be taken for this one.

use super::action::{Action, Actions, ReadId};
use super::codec::{Put, Take};
use std::collections::BTreeSet;

/// Most reads under way; a caller with more batches them.
const READS_MAX: usize = 4096;

/// See the module's documentation.
pub(super) struct Reads {
    node: i32,
    incarnation: u64,
    next: u64,
    under_way: BTreeSet<u64>,
}

impl Reads {
    pub(super) fn new(node: i32, incarnation: u64) -> Reads {
        Reads { node, incarnation, next: 1, under_way: BTreeSet::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.under_way.len() >= READS_MAX
    }

    /// A new read and its context.
    pub(super) fn begin(&mut self) -> (ReadId, Vec<u8>) {
        let sequence = self.next;
        self.next += 1;
        self.under_way.insert(sequence);
        let mut context = Vec::with_capacity(20);
        context.put_i32(self.node);
        context.put_u64(self.incarnation);
        context.put_u64(sequence);
        (ReadId(sequence), context)
    }

    /// The read of a context; none if it is not ours or no longer under way.
    pub(super) fn ready(&mut self, context: &[u8]) -> Option<ReadId> {
        let mut take = Take(context);
        let ours = take.i32()? == self.node && take.u64()? == self.incarnation;
        let sequence = take.u64()?;
        (ours && self.under_way.remove(&sequence)).then_some(ReadId(sequence))
    }

    /// The read's deadline has passed.
    pub(super) fn forget(&mut self, read: ReadId) {
        self.under_way.remove(&read.0);
    }

    /// The leader that was asked leads no longer.
    pub(super) fn lose_all(&mut self, out: &mut Actions) {
        out.extend(
            std::mem::take(&mut self.under_way)
                .into_iter()
                .map(|sequence| Action::ReadLost { read: ReadId(sequence) }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_name_one_read_of_one_run() {
        let (mut first, mut second) = (Reads::new(0, 7), Reads::new(0, 8));
        let (read, context) = first.begin();
        second.begin();
        assert_eq!(second.ready(&context), None, "another run's");
        assert_eq!(first.ready(&context), Some(read));
        assert_eq!(first.ready(&context), None, "answered already");
        let (read, context) = first.begin();
        let mut out = Vec::new();
        first.lose_all(&mut out);
        assert_eq!(out, [Action::ReadLost { read }]);
        assert_eq!(first.ready(&context), None);
        assert_eq!(first.ready(b"short"), None);
    }
}
