//! Handles of record bytes on their way to a socket, wherever they live.

use ringlog_net::fetch::RecordSlice;
use ringlog_storage::chunk::ChunkSlice;
use ringlog_storage::reader::ColdRecords;

/// See the module's documentation. May be sent to another shard.
pub enum RecordHandle {
    /// In a tail chunk.
    Tail(ChunkSlice),
    /// In a mapping or in a buffer read from a file.
    Cold(ColdRecords),
}

impl RecordHandle {
    /// The bytes. Those of a mapping are for the socket only.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            RecordHandle::Tail(slice) => slice.as_bytes(),
            RecordHandle::Cold(records) => records.as_bytes(),
        }
    }

    /// Bytes of the broker's memory that it keeps in use: none for what is mapped.
    #[must_use]
    pub fn memory(&self) -> usize {
        match self {
            RecordHandle::Tail(slice) => slice.len(),
            RecordHandle::Cold(records) => records.memory(),
        }
    }
}

impl RecordSlice for RecordHandle {
    fn byte_len(&self) -> usize {
        self.as_bytes().len()
    }
}
