//! Tables of Kafka's rules for fetch sessions.

use super::*;

pub(super) type Topic = &'static str;

fn params(fetch_offset: i64) -> FetchParams {
    FetchParams {
        fetch_offset,
        log_start_offset: -1,
        max_bytes: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
    }
}

pub(super) fn partition(index: i32, offset: i64) -> FetchPartition<Topic> {
    FetchPartition { topic: "t", partition: index, params: params(offset) }
}

pub(super) fn request(session_id: i32, session_epoch: i32, indexes: &[i32]) -> FetchRequest<Topic> {
    FetchRequest {
        session_id,
        session_epoch,
        uses_topic_ids: false,
        privileged: false,
        partitions: indexes.iter().map(|i| partition(*i, 0)).collect(),
        forgotten: Vec::new(),
    }
}

pub(super) const QUIET: PartitionResult = PartitionResult {
    has_data: false,
    error: ErrorCode::NONE,
    high_watermark: 10,
    log_start_offset: 0,
    has_preferred_replica: false,
    has_diverging_epoch: false,
};

fn indexes(plan: &Plan<Topic>) -> Vec<i32> {
    plan.partitions.iter().map(|p| p.partition).collect()
}

/// A full fetch of partitions that all answer `QUIET`.
pub(super) fn create(
    sessions: &mut FetchSessions<Topic>,
    now_ms: u64,
    id: i32,
    indexes: &[i32],
    privileged: bool,
) -> i32 {
    let plan =
        sessions.begin(now_ms, FetchRequest { privileged, ..request(0, 0, indexes) }).expect("a full fetch");
    let results = vec![QUIET; plan.partitions.len()];
    let finish = sessions.finish(now_ms, plan, &results, &[id]);
    sessions.check();
    finish.session_id
}

/// An incremental fetch of session 7 whose partitions answer `results` in turn.
fn fetch(sessions: &mut FetchSessions<Topic>, epoch: i32, results: &[PartitionResult]) -> Finish {
    let plan = sessions.begin(1, request(7, epoch, &[])).expect("the session is there");
    let finish = sessions.finish(1, plan, results, &[]);
    sessions.check();
    finish
}

#[test]
fn a_session_lives_from_full_fetch_to_final_epoch() {
    let mut sessions = FetchSessions::new(10);
    assert_eq!(create(&mut sessions, 0, 7, &[0, 1, 2], false), 7);
    let mut change = request(7, 1, &[3]);
    change.partitions.push(partition(1, 55));
    change.forgotten = vec![("t", 0)];
    let plan = sessions.begin(1, change).expect("epoch 1 follows the full fetch");
    assert!(plan.incremental());
    assert_eq!(plan.partitions, vec![partition(1, 55), partition(2, 0), partition(3, 0)]);
    let finish = sessions.finish(1, plan, &[QUIET; 3], &[]);
    assert_eq!(finish, Finish { session_id: 7, error: ErrorCode::NONE, include: vec![false, false, true] });

    let closing = sessions.begin(2, request(7, FINAL_EPOCH, &[5])).expect("closing never fails");
    assert!(!closing.incremental());
    let finish = sessions.finish(2, closing, &[QUIET], &[9]);
    assert_eq!((finish.session_id, finish.include), (NO_SESSION, vec![true]));
    assert!(sessions.is_empty());
}

#[test]
fn errors_name_what_is_wrong_with_the_session() {
    let mut sessions = FetchSessions::new(10);
    create(&mut sessions, 0, 7, &[0], false);
    let ids = FetchRequest { uses_topic_ids: true, ..request(7, 1, &[]) };
    for (request, error) in [
        (request(8, 1, &[]), ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        (request(0, 1, &[]), ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        (request(7, 2, &[]), ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        (request(7, -2, &[]), ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        (FetchRequest { session_epoch: 2, ..ids.clone() }, ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        (ids, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR),
    ] {
        assert_eq!(sessions.begin(0, request).expect_err("refused"), error);
    }
    assert_eq!(fetch(&mut sessions, 1, &[QUIET]).error, ErrorCode::NONE, "a refusal changes nothing");
}

#[test]
fn a_full_fetch_closes_the_session_it_names() {
    let mut sessions = FetchSessions::new(10);
    create(&mut sessions, 0, 7, &[0], false);
    let plan = sessions.begin(1, request(7, INITIAL_EPOCH, &[1])).expect("a full fetch");
    let finish = sessions.finish(1, plan, &[QUIET], &[7]);
    assert_eq!((finish.session_id, sessions.len()), (7, 1));
    assert_eq!(sessions.begin(1, request(7, 1, &[])).map(|plan| indexes(&plan)), Ok(vec![1]));
}

#[test]
fn a_session_emptied_by_forgetting_is_closed() {
    let mut sessions = FetchSessions::new(10);
    create(&mut sessions, 0, 7, &[0], false);
    // Partition 4 is added and forgotten by the same request: Kafka still reads it, without a session.
    let change = FetchRequest { forgotten: vec![("t", 0), ("t", 4)], ..request(7, 1, &[4]) };
    let plan = sessions.begin(1, change).expect("forgetting all is allowed");
    assert_eq!((plan.incremental(), indexes(&plan)), (false, vec![4]));
    assert_eq!(sessions.finish(1, plan, &[QUIET], &[9]).session_id, NO_SESSION);
    assert!(sessions.is_empty());
}

#[test]
fn only_what_changed_is_answered() {
    let data = PartitionResult { has_data: true, ..QUIET };
    let moved = PartitionResult { high_watermark: 11, ..QUIET };
    let trimmed = PartitionResult { log_start_offset: 1, ..QUIET };
    let elsewhere = PartitionResult { has_preferred_replica: true, ..QUIET };
    let diverging = PartitionResult { has_diverging_epoch: true, ..QUIET };
    let failed = PartitionResult {
        error: ErrorCode::NOT_LEADER_OR_FOLLOWER,
        high_watermark: -1,
        log_start_offset: -1,
        ..QUIET
    };
    let failed_in_place = PartitionResult { error: ErrorCode::KAFKA_STORAGE_ERROR, ..QUIET };
    // What the second fetch answers, whether it is sent, and whether the third, quiet again, is sent.
    for (second, sent, sent_after) in [
        (QUIET, false, false),
        (data, true, false),
        (moved, true, true),
        (trimmed, true, true),
        (elsewhere, true, false),
        (diverging, true, false),
        (failed, true, true),
        (failed_in_place, true, true),
    ] {
        let mut sessions = FetchSessions::new(10);
        create(&mut sessions, 0, 7, &[0], false);
        assert_eq!(fetch(&mut sessions, 1, &[second]).include, [sent], "{second:?}");
        assert_eq!(fetch(&mut sessions, 2, &[QUIET]).include, [sent_after], "after {second:?}");
        assert_eq!(fetch(&mut sessions, 3, &[QUIET]).include, [false], "at rest after {second:?}");
    }
}

#[test]
fn partitions_with_data_go_to_the_end() {
    let mut sessions = FetchSessions::new(10);
    create(&mut sessions, 0, 7, &[0, 1, 2, 3], false);
    let data = PartitionResult { has_data: true, ..QUIET };
    fetch(&mut sessions, 1, &[data, QUIET, data, QUIET]);
    let plan = sessions.begin(1, request(7, 2, &[])).expect("the session is there");
    assert_eq!(indexes(&plan), [1, 3, 0, 2]);
}

#[test]
fn the_epoch_wraps_to_one() {
    for (epoch, next) in [(FINAL_EPOCH, FINAL_EPOCH), (0, 1), (1, 2), (i32::MAX - 1, i32::MAX), (i32::MAX, 1)]
    {
        assert_eq!(next_epoch(epoch), next);
    }
    let mut sessions = FetchSessions::new(10);
    create(&mut sessions, 0, 7, &[0], false);
    sessions.cache.get_mut(7).expect("just made").epoch = i32::MAX;
    assert_eq!(fetch(&mut sessions, i32::MAX, &[QUIET]).error, ErrorCode::NONE);
    assert_eq!(fetch(&mut sessions, 1, &[QUIET]).error, ErrorCode::NONE);
}

#[test]
fn a_request_overtaken_by_the_next_is_a_duplicate() {
    let mut sessions = FetchSessions::new(10);
    create(&mut sessions, 0, 7, &[0], false);
    let slow = sessions.begin(1, request(7, 1, &[])).expect("epoch 1");
    let fast = sessions.begin(1, request(7, 2, &[])).expect("epoch 2");
    let refused = sessions.finish(2, slow, &[QUIET], &[]);
    assert_eq!(refused.error, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    assert_eq!((refused.session_id, refused.include), (7, vec![false]));
    assert_eq!(sessions.finish(2, fast, &[QUIET], &[]).error, ErrorCode::NONE);
}

#[test]
fn what_was_read_for_a_session_closed_meanwhile_is_still_answered() {
    let mut sessions = FetchSessions::new(10);
    create(&mut sessions, 0, 7, &[0, 1], false);
    let plan = sessions.begin(1, request(7, 1, &[])).expect("epoch 1");
    sessions.close(7);
    let finish = sessions.finish(1, plan, &[QUIET; 2], &[]);
    assert_eq!(finish, Finish { session_id: 7, error: ErrorCode::NONE, include: vec![true, true] });
}

#[test]
fn a_partition_named_twice_keeps_its_place_and_takes_the_last_parameters() {
    let mut sessions = FetchSessions::new(10);
    let mut twice = request(0, 0, &[0, 1]);
    twice.partitions.push(partition(0, 99));
    let plan = sessions.begin(0, twice).expect("a full fetch");
    assert_eq!(plan.partitions, vec![partition(0, 99), partition(1, 0)]);
}

#[test]
fn eviction_follows_kafkas_order() {
    struct Case {
        why: &'static str,
        /// Whether the one session there is is a follower's, when it was last used, and its partitions.
        old: (bool, u64, usize),
        now_ms: u64,
        new: (bool, usize),
        evicts: bool,
    }
    let young = EVICT_AFTER_MS;
    let case = |why, old, now_ms, new, evicts| Case { why, old, now_ms, new, evicts };
    for Case { why, old, now_ms, new, evicts } in [
        case("consumers do not evict young ones", (false, 0, 1), young, (false, 9), false),
        case("unless stale, even a follower's", (true, 0, 9), young + 1, (false, 1), true),
        case("followers evict consumers of any size", (false, 0, 9), 1, (true, 1), true),
        case("followers do not evict young followers", (true, 0, 1), 1, (true, 9), false),
        case("a bigger one evicts an old one in use", (false, young + 1, 2), young + 2, (false, 3), true),
        case("an equal one does not", (false, young + 1, 2), young + 2, (false, 2), false),
        case("a consumer never evicts a follower in use", (true, young + 1, 1), young + 2, (false, 9), false),
        case("a bigger follower evicts an old one", (true, young + 1, 2), young + 2, (true, 3), true),
        case("age counts as of the last use", (false, young, 2), young + 2, (false, 3), false),
    ] {
        let mut sessions = FetchSessions::new(1);
        let many: Vec<i32> = (0..9).collect();
        assert_eq!(create(&mut sessions, 0, 7, &many[..old.2], old.0), 7);
        if old.1 > 0 {
            let plan = sessions.begin(old.1, request(7, 1, &[])).expect("the session is there");
            sessions.finish(old.1, plan, &vec![QUIET; old.2], &[]);
        }
        let made = create(&mut sessions, now_ms, 8, &many[..new.1], new.0);
        assert_eq!(made == 8, evicts, "{why}");
        assert_eq!(sessions.evictions(), u64::from(evicts), "{why}");
    }
}

#[test]
fn ids_belong_to_their_shard_and_are_not_given_twice() {
    for shards in [1, 2, 3, 64, 1 << 16] {
        for shard in [0, shards / 2, shards - 1] {
            for random in [0, 1, 0xdead_beef, u64::MAX] {
                let id = session_id_candidate(shard, shards, random);
                assert!(id > NO_SESSION);
                assert_eq!(owner_shard(id, shards), shard);
            }
        }
        for odd in [0, -1, i32::MIN, i32::MAX] {
            assert!(owner_shard(odd, shards) < shards);
        }
    }
    let mut sessions = FetchSessions::new(10);
    create(&mut sessions, 0, 7, &[0], false);
    assert_eq!(create(&mut sessions, 0, 7, &[0], false), NO_SESSION, "the only candidate is taken");
    let plan = sessions.begin(0, request(0, 0, &[0])).expect("a full fetch");
    assert_eq!(sessions.finish(0, plan, &[QUIET], &[0, -3, 7, 11]).session_id, 11);
}

#[test]
fn without_slots_there_are_no_sessions() {
    let mut sessions = FetchSessions::new(0);
    assert_eq!(create(&mut sessions, 0, 7, &[0], true), NO_SESSION);
}

#[test]
fn the_partitions_of_all_sessions_are_bounded() {
    let mut sessions = FetchSessions { cache: cache::Cache::new(10, 4) };
    assert_eq!(create(&mut sessions, 0, 7, &[0, 1, 2], false), 7);
    assert_eq!(create(&mut sessions, 0, 8, &[0, 1], false), NO_SESSION, "no room, nobody to evict");
    assert_eq!(create(&mut sessions, 0, 8, &[0, 1, 2, 3, 4], true), NO_SESSION, "never fits");
    assert_eq!(sessions.len(), 1);
    let grown = sessions.begin(1, request(7, 1, &[3, 4]));
    assert_eq!(grown.expect_err("grown too big"), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    sessions.check();
    assert!(sessions.is_empty());
}
