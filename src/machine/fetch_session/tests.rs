//! Tables of Kafka's rules for fetch sessions, and a comparison with a naive model of them.

use proptest::prelude::*;

use super::*;

type Topic = &'static str;

fn params(fetch_offset: i64) -> FetchParams {
    FetchParams {
        fetch_offset,
        log_start_offset: -1,
        max_bytes: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
    }
}

fn partition(index: i32, offset: i64) -> FetchPartition<Topic> {
    FetchPartition { topic: "t", partition: index, params: params(offset) }
}

fn request(session_id: i32, session_epoch: i32, indexes: &[i32]) -> FetchRequest<Topic> {
    FetchRequest {
        session_id,
        session_epoch,
        uses_topic_ids: false,
        privileged: false,
        partitions: indexes.iter().map(|i| partition(*i, 0)).collect(),
        forgotten: Vec::new(),
    }
}

const QUIET: PartitionResult = PartitionResult {
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
fn create(
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

/// Kafka's rules without indexes: every question is answered by looking at everything.
#[derive(Default)]
struct Model {
    sessions: Vec<ModelSession>,
    slots: usize,
}

struct ModelSession {
    id: i32,
    epoch: i32,
    privileged: bool,
    created_ms: u64,
    used_ms: u64,
    /// Index, offset asked for, high watermark last answered, log start offset last answered.
    partitions: Vec<(i32, i64, i64, i64)>,
}

impl Model {
    fn begin(&mut self, now_ms: u64, request: &FetchRequest<Topic>) -> Result<Vec<(i32, i64)>, ErrorCode> {
        if request.session_epoch <= 0 {
            self.sessions.retain(|s| s.id != request.session_id);
            let mut wanted: Vec<(i32, i64)> = Vec::new();
            for p in &request.partitions {
                match wanted.iter_mut().find(|w| w.0 == p.partition) {
                    Some(same) => same.1 = p.params.fetch_offset,
                    None => wanted.push((p.partition, p.params.fetch_offset)),
                }
            }
            return Ok(wanted);
        }
        let Some(session) = self.sessions.iter_mut().find(|s| s.id == request.session_id) else {
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        };
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        for p in &request.partitions {
            match session.partitions.iter_mut().find(|known| known.0 == p.partition) {
                Some(known) => known.1 = p.params.fetch_offset,
                None => session.partitions.push((p.partition, p.params.fetch_offset, -1, -1)),
            }
        }
        session.partitions.retain(|known| !request.forgotten.contains(&("t", known.0)));
        if session.partitions.is_empty() {
            let mut sessionless = request.clone();
            sessionless.session_epoch = FINAL_EPOCH;
            return self.begin(now_ms, &sessionless);
        }
        session.epoch += 1;
        session.used_ms = now_ms;
        Ok(session.partitions.iter().map(|p| (p.0, p.1)).collect())
    }

    fn create(
        &mut self,
        now_ms: u64,
        id: i32,
        privileged: bool,
        partitions: Vec<(i32, i64, i64, i64)>,
    ) -> i32 {
        if self.sessions.iter().any(|s| s.id == id) {
            return NO_SESSION;
        }
        if self.sessions.len() >= self.slots {
            let stalest = self.sessions.iter().min_by_key(|s| (s.used_ms, s.id)).expect("the cache is full");
            let stale = now_ms - stalest.used_ms > EVICT_AFTER_MS;
            let may = |s: &&ModelSession| {
                s.used_ms - s.created_ms > EVICT_AFTER_MS || (privileged && !s.privileged)
            };
            let worth = |s: &ModelSession| (s.privileged, s.partitions.len());
            let least = self.sessions.iter().filter(may).min_by_key(|s| (worth(s), s.id));
            let victim = match least {
                _ if stale => stalest.id,
                Some(least) if worth(least) < (privileged, partitions.len()) => least.id,
                _ => return NO_SESSION,
            };
            self.sessions.retain(|s| s.id != victim);
        }
        let session =
            ModelSession { id, epoch: 1, privileged, created_ms: now_ms, used_ms: now_ms, partitions };
        self.sessions.push(session);
        id
    }

    fn answer(&mut self, id: i32, results: &[PartitionResult]) -> Vec<bool> {
        let session = self.sessions.iter_mut().find(|s| s.id == id).expect("begin found it");
        let mut stay = Vec::new();
        let mut go = Vec::new();
        let mut include = Vec::new();
        for (mut known, result) in session.partitions.drain(..).zip(results) {
            let failed = result.error.is_error();
            include.push(
                result.has_data
                    || failed
                    || (known.2, known.3) != (result.high_watermark, result.log_start_offset),
            );
            known.2 = if failed { -1 } else { result.high_watermark };
            known.3 = result.log_start_offset;
            if result.has_data { go.push(known) } else { stay.push(known) }
        }
        stay.append(&mut go);
        session.partitions = stay;
        include
    }
}

#[derive(Clone, Debug)]
struct Step {
    wait_ms: u64,
    /// Which session is named: one of the ids in use, or any.
    id: i32,
    /// 0 full, 1 final, 2 a wrong epoch, else the right one.
    epoch: u8,
    privileged: bool,
    named: Vec<(i32, i64)>,
    forgotten: Vec<i32>,
    /// By partition: has data, fails, high watermark, log start offset.
    results: Vec<(bool, bool, i64, i64)>,
}

const MODEL_PARTITIONS: usize = 6;

fn step() -> impl Strategy<Value = Step> {
    let index = 0..MODEL_PARTITIONS as i32;
    let wait_ms = prop_oneof![4 => 0..100u64, 1 => EVICT_AFTER_MS - 50..EVICT_AFTER_MS + 50];
    (
        wait_ms,
        1..6i32,
        0..12u8,
        any::<bool>(),
        prop::collection::vec((index.clone(), 0..3i64), 0..5),
        prop::collection::vec(index, 0..3),
        prop::collection::vec((any::<bool>(), prop::bool::weighted(0.2), 0..2i64, 0..2i64), MODEL_PARTITIONS),
    )
        .prop_map(|(wait_ms, id, epoch, privileged, named, forgotten, results)| Step {
            wait_ms,
            id,
            epoch,
            privileged,
            named,
            forgotten,
            results,
        })
}

fn step_request(step: &Step, right_epoch: i32) -> FetchRequest<Topic> {
    FetchRequest {
        session_id: step.id,
        session_epoch: match step.epoch {
            0 | 1 => INITIAL_EPOCH,
            2 => FINAL_EPOCH,
            3 => right_epoch + 1,
            _ => right_epoch,
        },
        uses_topic_ids: false,
        privileged: step.privileged,
        partitions: step.named.iter().map(|(index, offset)| partition(*index, *offset)).collect(),
        forgotten: step.forgotten.iter().map(|index| ("t", *index)).collect(),
    }
}

fn run(slots: usize, steps: &[Step]) {
    let mut sessions = FetchSessions::new(slots);
    let mut model = Model { slots, ..Model::default() };
    let mut now_ms = 0;
    for (at, step) in steps.iter().enumerate() {
        now_ms += step.wait_ms;
        let right_epoch = model.sessions.iter().find(|s| s.id == step.id).map_or(1, |s| s.epoch);
        let request = step_request(step, right_epoch);
        let expected = model.begin(now_ms, &request);
        let full = request.session_epoch == INITIAL_EPOCH;
        let plan = sessions.begin(now_ms, request.clone());
        sessions.check();
        let wanted = |plan: &Plan<Topic>| {
            plan.partitions.iter().map(|p| (p.partition, p.params.fetch_offset)).collect::<Vec<_>>()
        };
        assert_eq!(plan.as_ref().map(wanted).map_err(|error| *error), expected, "step {at}");
        let Ok(plan) = plan else { continue };
        let results: Vec<PartitionResult> = plan
            .partitions
            .iter()
            .map(|p| {
                let (has_data, fails, high_watermark, log_start_offset) = step.results[p.partition as usize];
                let error = if fails { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION } else { ErrorCode::NONE };
                PartitionResult { has_data, error, high_watermark, log_start_offset, ..QUIET }
            })
            .collect();
        let expected = if full {
            let partitions = wanted(&plan).into_iter().zip(&results);
            let partitions =
                partitions.map(|(p, r)| (p.0, p.1, r.high_watermark, r.log_start_offset)).collect();
            let id = model.create(now_ms, step.id, step.privileged, partitions);
            (id, vec![true; results.len()])
        } else if plan.incremental() {
            (step.id, model.answer(step.id, &results))
        } else {
            (NO_SESSION, vec![true; results.len()])
        };
        let finish = sessions.finish(now_ms, plan, &results, &[step.id]);
        sessions.check();
        assert_eq!(finish.error, ErrorCode::NONE);
        assert_eq!((finish.session_id, finish.include), expected, "step {at}");
        assert_eq!(sessions.len(), model.sessions.len(), "step {at}");
    }
}

proptest! {
    #[test]
    fn behaves_as_the_naive_model(slots in 1..4usize, steps in prop::collection::vec(step(), 1..60)) {
        run(slots, &steps);
    }

    /// With room for one partition's data in a response, every partition with data gets its turn.
    #[test]
    fn no_partition_starves(count in 1..20usize, always in prop::collection::vec(any::<bool>(), 20)) {
        let mut sessions = FetchSessions::new(1);
        let all: Vec<i32> = (0..count as i32).collect();
        create(&mut sessions, 0, 7, &all, false);
        let hungry = always[..count].iter().filter(|has_data| **has_data).count();
        let mut served = vec![0; count];
        for round in 0..2 * hungry {
            let plan = sessions.begin(1, request(7, round as i32 + 1, &[])).expect("the session is there");
            let mut results = vec![QUIET; count];
            let first = plan.partitions.iter().position(|p| always[p.partition as usize]).expect("one is hungry");
            results[first].has_data = true;
            served[plan.partitions[first].partition as usize] += 1;
            sessions.finish(1, plan, &results, &[]);
        }
        for (index, times) in served.iter().enumerate() {
            prop_assert_eq!(*times, if always[index] { 2 } else { 0 });
        }
    }
}
