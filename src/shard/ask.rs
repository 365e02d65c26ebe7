//! What one shard asks another about its partitions, and what it is told. Also used by a shard of itself, so that
//! there is one way to do each thing.

use crate::machine::error::ErrorCode;
use ringlog_storage::PartitionKey;

/// A question about one partition.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which partition.
    pub key: PartitionKey,
    /// The leader epoch that the client knows; -1 if none. A wrong one is refused (KIP-320).
    pub leader_epoch: i32,
    /// The question.
    pub question: Question,
}

/// See [`Ask`].
#[derive(Clone, Debug)]
pub enum Question {
    /// ListOffsets: `timestamp` is ms since 1970 or one of Kafka's special values (-1 latest, -2 earliest, -3 max
    /// timestamp, -4 earliest local, -5 latest tiered, -6 earliest pending upload).
    Offset {
        /// See above.
        timestamp: i64,
    },
    /// DeleteRecords: everything below `offset` goes; -1 for the high watermark. Answered once that is durable.
    DeleteBefore {
        /// See above.
        offset: i64,
    },
    /// OffsetForLeaderEpoch.
    EpochEnd {
        /// The epoch asked about.
        epoch: i32,
    },
    /// DescribeLogDirs: how large the log is.
    Size,
    /// DescribeProducers.
    Producers,
}

/// An idempotent producer of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Its last sequence number.
    pub last_sequence: i32,
    /// Timestamp of its last batch, ms since 1970.
    pub last_timestamp: i64,
}

/// The answer to a question.
#[derive(Clone, Debug)]
pub enum Told {
    /// To [`Question::Offset`]: -1 in both where no record fits.
    Offset {
        /// The offset.
        offset: i64,
        /// The record's timestamp, ms since 1970; -1 for the special values that have none.
        timestamp: i64,
        /// Leader epoch of the record, or the current one; -1 if unknown.
        leader_epoch: i32,
    },
    /// To [`Question::DeleteBefore`]: the new log start offset.
    LogStart(i64),
    /// To [`Question::EpochEnd`]: the epoch that the answer is about and where it ends; -1 in both if unknown.
    EpochEnd {
        /// The largest epoch not above the one asked about.
        epoch: i32,
        /// Offset after its last record.
        end_offset: i64,
    },
    /// To [`Question::Size`], bytes.
    Size(u64),
    /// To [`Question::Producers`].
    Producers(Vec<ActiveProducer>),
    /// Refused.
    Error(ErrorCode),
}
