//! OffsetCommit, OffsetFetch and OffsetDelete, and offsets that expire or whose topic is deleted.

use std::rc::Rc;

use crate::machine::error::ErrorCode;

use super::coordinator::Cx;
use super::offsets::CommittedOffset;
use super::outbox::{AppendId, Change, Then};
use super::records::{StateRecord, encode_group_key, encode_offset_key, encode_offset_value};
use super::reply::{
    CommitReply, FetchedGroup, FetchedPartition, FetchedTopic, OffsetDeleteReply, Reply, TopicErrors,
};
use super::request::{CommitPartition, CommitRequest, FetchGroup, FetchTopic, OffsetDeleteRequest};
use super::settings::{RECORD_STRING_BYTES_MAX, TOMBSTONES_PER_APPEND_MAX};
use super::state::{Group, GroupState};

use GroupState::{CompletingRebalance, Dead, Empty, PreparingRebalance, Stable};

const NO_TOPIC_ID: [u8; 16] = [0; 16];

impl Group {
    /// Handles an OffsetCommit request.
    pub(super) fn commit(&mut self, cx: &mut Cx, token: u64, commit: &CommitRequest) {
        if let Err(error) = self.validate_commit(commit) {
            return cx.io.reply(token, Reply::Commit(commit.refuse(error)));
        }
        if matches!(self.state, Stable | PreparingRebalance) {
            // A commit is as good a sign of life as a heartbeat.
            self.restart_session(cx, &commit.member_id);
        }
        let expire_ms =
            (commit.retention_ms >= 0).then(|| cx.now.wall_ms.saturating_add(commit.retention_ms));
        let (mut records, mut changes, mut topics) = (Vec::new(), Vec::new(), Vec::new());
        let append = cx.io.next_append_id();
        for topic in &commit.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let error = check_offset(&topic.name, partition, cx.settings.offset_metadata_max);
                partitions.push((partition.partition, error));
                if error.is_error() {
                    continue;
                }
                let value = CommittedOffset {
                    offset: partition.offset,
                    // The one version with an expire timestamp has no room for an epoch; what memory holds is
                    // what the record holds.
                    leader_epoch: if expire_ms.is_some() { -1 } else { partition.leader_epoch.max(-1) },
                    metadata: partition.metadata.clone().unwrap_or_default(),
                    commit_ms: cx.now.wall_ms,
                    expire_ms,
                    topic_id: topic.topic_id,
                };
                records.push(StateRecord {
                    key: encode_offset_key(&self.id, &topic.name, partition.partition),
                    value: Some(encode_offset_value(&value)),
                    timestamp_ms: cx.now.wall_ms,
                });
                changes.push(self.offset_change(&topic.name, partition.partition));
                self.offsets.begin(append, &topic.name, partition.partition, Some(value));
            }
            topics.push(TopicErrors { name: topic.name.clone(), topic_id: topic.topic_id, partitions });
        }
        let reply = Reply::Commit(CommitReply { topics });
        if records.is_empty() {
            return cx.io.reply(token, reply);
        }
        let append = cx.io.append(records, changes, Then::Nothing);
        cx.io.reply_after(&[append], token, reply);
    }

    fn validate_commit(&self, commit: &CommitRequest) -> Result<(), ErrorCode> {
        if self.state == Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        if commit.generation < 0 && self.state == Empty {
            // An administrator, or a consumer that does without group management.
            return Ok(());
        }
        if commit.generation < 0 && commit.member_id.is_empty() && commit.instance_id.is_none() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.validate_member(&commit.member_id, commit.instance_id.as_deref())?;
        if commit.generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        // The member has joined the generation but has no assignment in it whose offsets it could commit.
        if self.state == CompletingRebalance { Err(ErrorCode::REBALANCE_IN_PROGRESS) } else { Ok(()) }
    }

    fn offset_change(&self, topic: &str, partition: i32) -> Change {
        Change::Offset { group: self.id.clone(), topic: topic.to_owned(), partition }
    }

    /// Answers an OffsetFetch request for the group.
    pub(super) fn fetch(&self, fetch: &FetchGroup) -> FetchedGroup {
        let topics = match &fetch.topics {
            Some(topics) => topics.iter().map(|topic| fetch_topic(Some(self), topic)).collect(),
            None => {
                let all = self.offsets.iter_durable().map(|(name, offsets)| FetchedTopic {
                    name: name.to_owned(),
                    topic_id: NO_TOPIC_ID,
                    partitions: offsets.map(|(partition, offset)| fetched(partition, Some(offset))).collect(),
                });
                all.collect()
            }
        };
        FetchedGroup { group: fetch.group.clone(), error: ErrorCode::NONE, topics }
    }

    /// Handles an OffsetDelete request (KIP-496).
    pub(super) fn delete_offsets(&mut self, cx: &mut Cx, token: u64, delete: &OffsetDeleteRequest) {
        let error = match self.state {
            Empty => ErrorCode::NONE,
            Dead => ErrorCode::COORDINATOR_NOT_AVAILABLE,
            PreparingRebalance | CompletingRebalance | Stable if self.uses_consumer_protocol() => {
                ErrorCode::NONE
            }
            PreparingRebalance | CompletingRebalance | Stable => ErrorCode::NON_EMPTY_GROUP,
        };
        if error.is_error() {
            return cx.io.reply(token, Reply::OffsetDelete(OffsetDeleteReply { error, topics: Vec::new() }));
        }
        let (mut doomed, mut topics) = (Vec::new(), Vec::new());
        for (name, asked) in &delete.topics {
            let subscribed = self.is_subscribed(name);
            let error = if subscribed { ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC } else { ErrorCode::NONE };
            for &partition in asked {
                if !subscribed && self.offsets.has_latest(name, partition) {
                    doomed.push((name.clone(), partition));
                }
            }
            let partitions = asked.iter().map(|&partition| (partition, error)).collect();
            topics.push(TopicErrors { name: name.clone(), topic_id: NO_TOPIC_ID, partitions });
        }
        doomed.sort();
        doomed.dedup();
        let appends = self.append_tombstones(cx, doomed, false);
        let reply = Reply::OffsetDelete(OffsetDeleteReply { error: ErrorCode::NONE, topics });
        cx.io.reply_after(&appends, token, reply);
    }

    /// Deletes the offsets of a topic that is no more.
    pub(super) fn delete_topic(&mut self, cx: &mut Cx, topic: &str) {
        let partitions = self.offsets.partitions_latest(topic).into_iter();
        self.append_tombstones(cx, partitions.map(|at| (topic.to_owned(), at)).collect(), false);
    }

    /// Deletes expired offsets, and the group with the last of them (KIP-211).
    pub(super) fn expire(&mut self, cx: &mut Cx) {
        let since_ms = match (&self.protocol_type, self.state) {
            // Consumers without group management: each offset by its own age.
            (None, _) => None,
            // All offsets once the group has been empty for the time of retention.
            (Some(_), Empty) => self.state_since_ms,
            // What the group no longer subscribes to, by its age.
            (Some(_), Stable) if self.uses_consumer_protocol() && self.subscribed.is_some() => None,
            (Some(_), _) => return,
        };
        if self.state == Dead {
            return;
        }
        let now_ms = cx.now.wall_ms;
        let expired = |offset: &CommittedOffset| match offset.expire_ms {
            Some(expire_ms) => now_ms >= expire_ms,
            None => {
                now_ms.saturating_sub(since_ms.unwrap_or(offset.commit_ms))
                    >= cx.settings.offsets_retention_ms
            }
        };
        let (mut doomed, mut kept) = (Vec::new(), false);
        for (topic, partition, offset, quiet) in self.offsets.iter_latest() {
            if quiet && expired(offset) && !self.is_subscribed(topic) {
                doomed.push((topic.to_owned(), partition));
            } else {
                kept = true;
            }
        }
        let removes_group = !kept && self.state == Empty && self.pending_joins.is_empty();
        if removes_group {
            self.delete(cx, doomed);
        } else {
            self.append_tombstones(cx, doomed, false);
        }
    }

    /// Handles the group's part of a DeleteGroups request: its tombstones' appends, or why it stays.
    pub(super) fn delete_by_request(&mut self, cx: &mut Cx) -> Result<Vec<AppendId>, ErrorCode> {
        match self.state {
            Empty => {}
            Dead => return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            PreparingRebalance | CompletingRebalance | Stable => return Err(ErrorCode::NON_EMPTY_GROUP),
        }
        let offsets = self.offsets.iter_latest();
        let doomed = offsets.map(|(topic, partition, _, _)| (topic.to_owned(), partition)).collect();
        for id in self.pending_joins.iter().cloned().collect::<Vec<Rc<str>>>() {
            self.remove_pending_join(cx, &id);
        }
        Ok(self.delete(cx, doomed))
    }

    /// Sends the group and these offsets to the grave. It is Dead until the log has them.
    fn delete(&mut self, cx: &mut Cx, doomed: Vec<(String, i32)>) -> Vec<AppendId> {
        assert_eq!(self.state, Empty);
        let has_record = self.logged.is_some() || self.records_in_flight > 0;
        if doomed.is_empty() && !has_record {
            return Vec::new();
        }
        // Should the append fail, the group has been empty as long as ever.
        let empty_since_ms = self.state_since_ms;
        self.transition(Dead, cx.now.wall_ms);
        self.state_since_ms = empty_since_ms;
        self.append_tombstones(cx, doomed, true)
    }

    /// Appends tombstones, in pieces of a bounded size; the group's own is the last record of the last piece.
    fn append_tombstones(
        &mut self,
        cx: &mut Cx,
        doomed: Vec<(String, i32)>,
        with_group: bool,
    ) -> Vec<AppendId> {
        let timestamp_ms = cx.now.wall_ms;
        let mut appends = Vec::new();
        let mut pieces = doomed.chunks(TOMBSTONES_PER_APPEND_MAX).peekable();
        let mut group_is_left = with_group;
        while pieces.peek().is_some() || group_is_left {
            let append = cx.io.next_append_id();
            let (mut records, mut changes) = (Vec::new(), Vec::new());
            for (topic, partition) in pieces.next().into_iter().flatten() {
                let key = encode_offset_key(&self.id, topic, *partition);
                records.push(StateRecord { key, value: None, timestamp_ms });
                changes.push(self.offset_change(topic, *partition));
                self.offsets.begin(append, topic, *partition, None);
            }
            let mut then = Then::Nothing;
            if group_is_left && pieces.peek().is_none() {
                group_is_left = false;
                records.push(StateRecord { key: encode_group_key(&self.id), value: None, timestamp_ms });
                changes.push(Change::Group { group: self.id.clone(), value: None });
                self.records_in_flight += 1;
                then = Then::Removed { group: self.id.clone() };
            }
            appends.push(cx.io.append(records, changes, then));
        }
        appends
    }

    /// The outcome of the group's tombstone.
    pub(super) fn removed(&mut self, cx: &mut Cx, error: Option<ErrorCode>) {
        assert_eq!(self.state, Dead, "a Dead group changes no more");
        let empty_since_ms = self.state_since_ms;
        self.transition(Empty, cx.now.wall_ms);
        self.state_since_ms = empty_since_ms;
        if error.is_none() {
            // Offsets whose tombstones failed stay, as those of a group that never had members.
            self.protocol_type = None;
            self.generation = 0;
            self.subscribed = None;
        }
    }
}

/// Answers a topic of an OffsetFetch request; without a group there are no offsets, which is no error.
pub(super) fn fetch_topic(group: Option<&Group>, topic: &FetchTopic) -> FetchedTopic {
    let same_topic = |offset: &&CommittedOffset| {
        offset.topic_id == NO_TOPIC_ID || topic.topic_id == NO_TOPIC_ID || offset.topic_id == topic.topic_id
    };
    let partitions = topic.partitions.iter().map(|&partition| {
        let offset = group.and_then(|group| group.offsets.durable(&topic.name, partition));
        fetched(partition, offset.filter(same_topic))
    });
    FetchedTopic { name: topic.name.clone(), topic_id: topic.topic_id, partitions: partitions.collect() }
}

fn fetched(partition: i32, offset: Option<&CommittedOffset>) -> FetchedPartition {
    FetchedPartition {
        partition,
        offset: offset.map_or(-1, |offset| offset.offset),
        leader_epoch: offset.map_or(-1, |offset| offset.leader_epoch),
        metadata: offset.map(|offset| offset.metadata.clone()).unwrap_or_default(),
    }
}

/// What is wrong with one offset to commit.
fn check_offset(topic: &str, partition: &CommitPartition, metadata_max: usize) -> ErrorCode {
    let metadata = partition.metadata.as_deref().unwrap_or_default();
    // Kafka counts UTF-16 units, of which there are never more than bytes.
    let too_long = metadata.len() > metadata_max && metadata.encode_utf16().count() > metadata_max;
    if too_long || metadata.len() > RECORD_STRING_BYTES_MAX {
        ErrorCode::OFFSET_METADATA_TOO_LARGE
    } else if topic.len() > RECORD_STRING_BYTES_MAX {
        ErrorCode::INVALID_TOPIC_EXCEPTION
    } else {
        ErrorCode::NONE
    }
}
