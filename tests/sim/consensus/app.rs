//! A small replicated state machine: it remembers, in order, the ids of the commands that took effect. A command
//! that comes again (its proposer could not know that it was committed) takes no effect.

use bytes::Bytes;
use std::collections::BTreeSet;

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// Everything up to this entry is in.
    pub index: u64,
    /// Ids in the order in which they took effect.
    pub order: Vec<u64>,
    seen: BTreeSet<u64>,
}

impl App {
    /// Applies an entry. Returns the id that took effect, if one did.
    pub fn apply(&mut self, index: u64, data: &Bytes) -> Option<u64> {
        assert!(index > self.index, "entry {index} is applied after {}", self.index);
        self.index = index;
        let id = u64::from_le_bytes(data.get(..8)?.try_into().expect("eight bytes"));
        self.seen.insert(id).then(|| self.order.push(id)).map(|()| id)
    }

    pub fn holds(&self, id: u64) -> bool {
        self.seen.contains(&id)
    }

    pub fn snapshot(&self) -> Bytes {
        // Padding makes snapshots of several chunks.
        let mut bytes = vec![0; 600];
        bytes.extend(self.order.iter().flat_map(|id| id.to_le_bytes()));
        bytes.into()
    }

    pub fn restore(index: u64, data: &Bytes) -> App {
        let ids = data.get(600..).unwrap_or_default().chunks_exact(8);
        let order: Vec<u64> = ids.map(|id| u64::from_le_bytes(id.try_into().expect("eight bytes"))).collect();
        let seen: BTreeSet<u64> = order.iter().copied().collect();
        assert_eq!(seen.len(), order.len(), "no command is in a snapshot twice");
        App { index, order, seen }
    }
}

/// The bytes of a command.
pub fn command(id: u64, padding: usize) -> Bytes {
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.resize(8 + padding, 0x5a);
    bytes.into()
}
