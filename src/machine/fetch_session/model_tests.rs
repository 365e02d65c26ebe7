//! Fetch sessions against a naive model of Kafka's rules, at random.

use proptest::prelude::*;

use super::tests::{QUIET, Topic, create, partition, request};
use super::*;

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
