//! Writing and reading of the consensus machine's own records: little-endian numbers, length-prefixed bytes.

use super::member::Peer;
use uuid::Uuid;

/// Appends to a byte vector.
pub(super) trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_u32(&mut self, value: u32);
    fn put_i32(&mut self, value: i32);
    fn put_u64(&mut self, value: u64);
    fn put_uuid(&mut self, value: Uuid);
    fn put_peer(&mut self, peer: Peer);
    fn put_list<T>(&mut self, of: impl ExactSizeIterator<Item = T>, put: impl FnMut(&mut Self, T));
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_i32(&mut self, value: i32) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_uuid(&mut self, value: Uuid) {
        self.extend_from_slice(value.as_bytes());
    }
    fn put_peer(&mut self, peer: Peer) {
        self.put_i32(peer.node);
        self.put_uuid(peer.directory);
    }
    fn put_list<T>(&mut self, of: impl ExactSizeIterator<Item = T>, mut put: impl FnMut(&mut Self, T)) {
        self.put_u32(u32::try_from(of.len()).expect("lists are bounded far below 4 Gi elements"));
        of.for_each(|element| put(self, element));
    }
}

/// Takes from the front of a slice; `None` where too little is left.
pub(super) struct Take<'a>(pub(super) &'a [u8]);

impl<'a> Take<'a> {
    pub(super) fn raw(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        Some(self.raw(N)?.try_into().expect("as long as asked for"))
    }
    pub(super) fn u8(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
    pub(super) fn uuid(&mut self) -> Option<Uuid> {
        self.array().map(Uuid::from_bytes)
    }
    pub(super) fn peer(&mut self) -> Option<Peer> {
        Some(Peer { node: self.i32()?, directory: self.uuid()? })
    }
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.raw(len as usize)
    }
    /// A list. Memory is taken element by element, never by the announced count.
    pub(super) fn list<T>(&mut self, mut take: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(take(self)?);
        }
        Some(list)
    }
    /// Whether all was taken.
    pub(super) fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}
