//! What a coordinator is configured with, and the limits on what it holds.

/// Longest string that a record of `__consumer_offsets` can hold: their strings carry a 16-bit length.
pub(super) const RECORD_STRING_BYTES_MAX: usize = i16::MAX as usize;
/// Longest client id, instance id or protocol name of a member, so that the member id made from it (which adds
/// a dash and a UUID) still fits a record.
pub(super) const MEMBER_STRING_BYTES_MAX: usize = RECORD_STRING_BYTES_MAX - 64;
/// Member ids that one group has handed out and not seen again yet (KIP-394). Beyond it, new members are told
/// that the group is full.
pub(super) const PENDING_MEMBERS_MAX: usize = 100_000;
/// Groups of one coordinator. Beyond it, a request that would create one is told to try again.
pub(super) const GROUPS_MAX: usize = 1_000_000;
/// Tombstones in one append when offsets expire or topics are deleted, so that a batch stays far below
/// `max.message.bytes`.
pub(super) const TOMBSTONES_PER_APPEND_MAX: usize = 500;
/// Groups looked at in one go when offsets expire; the rest follows at the next tick.
pub(super) const EXPIRY_GROUPS_PER_TICK: usize = 256;

const _: () = assert!(MEMBER_STRING_BYTES_MAX + 1 + 36 <= RECORD_STRING_BYTES_MAX);

/// The coordinator's options. Each is named as Kafka names it, with dots for underscores, in its doc.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`: shortest session timeout that a member may ask for.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`: longest session timeout that a member may ask for.
    pub max_session_timeout_ms: i32,
    /// `group.max.size`: members of one group.
    pub max_size: usize,
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits for further
    /// members (KIP-134).
    pub initial_rebalance_delay_ms: u64,
    /// How long a member that joins for the first time may wait for its rebalance before it is dropped, because
    /// it cannot send heartbeats meanwhile (Kafka: five minutes, not configurable).
    pub new_member_join_timeout_ms: u64,
    /// `offset.metadata.max.bytes`: longest metadata text of a committed offset, counted as Kafka counts it (in
    /// UTF-16 units).
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`, in milliseconds: how long offsets are kept once their group is empty (or,
    /// for consumers without a group, after the last commit; KIP-211).
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`: how often expired offsets are looked for.
    pub offsets_retention_check_interval_ms: u64,
}

impl Default for GroupSettings {
    fn default() -> GroupSettings {
        GroupSettings {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 30 * 60_000,
            max_size: i32::MAX as usize,
            initial_rebalance_delay_ms: 3_000,
            new_member_join_timeout_ms: 5 * 60_000,
            offset_metadata_max: crate::limits::OFFSET_METADATA_BYTES_MAX,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            offsets_retention_check_interval_ms: 600_000,
        }
    }
}
