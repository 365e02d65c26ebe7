//! Which brokers a new partition's replicas go to.
//!
//! Evenness within the topic comes first: its leaders go to the brokers that lead fewest of it, its followers to those
//! that hold fewest of it, one rack after the other. So both are even within one over brokers wherever racks allow it,
//! and a broker that joined empty does not get every partition of the next topic. What brokers carry besides breaks
//! ties, so that small topics that come one by one fill up what earlier ones left.

use std::cmp::Reverse;

/// A broker that may get replicas, with what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Node id.
    pub id: i32,
    /// Its rack; brokers without one are taken as one rack each.
    pub rack: Option<String>,
    /// Replicas it has.
    pub replicas: u64,
    /// Partitions it leads.
    pub leaders: u64,
}

/// What a broker was given by this placement.
#[derive(Clone, Copy, Default)]
struct Given {
    replicas: u64,
    leaders: u64,
}

/// Places `partitions` partitions of `factor` replicas. The first replica of each is its preferred leader.
///
/// # Panics
/// If there are fewer candidates than replicas: the caller refuses that.
#[must_use]
pub fn place(mut candidates: Vec<Candidate>, partitions: usize, factor: usize) -> Vec<Vec<i32>> {
    assert!(factor >= 1 && factor <= candidates.len(), "as many brokers as replicas at least");
    candidates.sort_by_key(|candidate| candidate.id);
    let racks = rack_numbers(&candidates);
    let mut given = vec![Given::default(); candidates.len()];
    (0..partitions).map(|_| place_one(&candidates, &racks, &mut given, factor)).collect()
}

/// A number for each candidate's rack.
fn rack_numbers(candidates: &[Candidate]) -> Vec<usize> {
    let same_rack = |a: &Candidate, b: &Candidate| a.rack.is_some() && a.rack == b.rack;
    candidates
        .iter()
        .enumerate()
        .map(|(at, candidate)| {
            candidates[..at].iter().position(|other| same_rack(other, candidate)).unwrap_or(at)
        })
        .collect()
}

fn place_one(candidates: &[Candidate], racks: &[usize], given: &mut [Given], factor: usize) -> Vec<i32> {
    let load = |at: usize| (candidates[at].leaders, candidates[at].replicas);
    let leader = (0..candidates.len())
        .min_by_key(|at| (given[*at].leaders, given[*at].replicas, load(*at), *at))
        .expect("there are as many brokers as replicas");
    let mut chosen = vec![leader];
    for _ in 1..factor {
        let in_rack = |at: usize| chosen.iter().filter(|other| racks[**other] == racks[at]).count();
        // Whoever led more than others follows first, so that who led less stays free to lead the next.
        let order = |at: &usize| {
            (in_rack(*at), given[*at].replicas, Reverse(given[*at].leaders), candidates[*at].replicas, *at)
        };
        let next = (0..candidates.len()).filter(|at| !chosen.contains(at)).min_by_key(order);
        chosen.push(next.expect("fewer are chosen than there are"));
    }
    given[leader].leaders += 1;
    for at in &chosen {
        given[*at].replicas += 1;
    }
    chosen.into_iter().map(|at| candidates[at].id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn brokers(count: i32, rack: impl Fn(i32) -> Option<String>) -> Vec<Candidate> {
        (1..=count).map(|id| Candidate { id, rack: rack(id), replicas: 0, leaders: 0 }).collect()
    }

    fn spread<'a>(ids: impl Iterator<Item = &'a i32>, count: i32) -> u64 {
        let mut counts: BTreeMap<i32, u64> = (1..=count).map(|id| (id, 0)).collect();
        ids.for_each(|id| *counts.get_mut(id).unwrap() += 1);
        counts.values().max().unwrap() - counts.values().min().unwrap()
    }

    proptest! {
        #[test]
        fn even_within_one_without_racks(
            count in 1i32..12, partitions in 1usize..60, factor in 1usize..5, loads: [u16; 12],
        ) {
            let factor = factor.min(count as usize);
            let mut brokers = brokers(count, |_| None);
            for (broker, load) in brokers.iter_mut().zip(loads) {
                (broker.replicas, broker.leaders) = (load.into(), (load / 2).into());
            }
            let placed = place(brokers, partitions, factor);
            prop_assert_eq!(placed.len(), partitions);
            for replicas in &placed {
                let distinct: std::collections::BTreeSet<_> = replicas.iter().collect();
                prop_assert_eq!(distinct.len(), factor);
            }
            prop_assert!(spread(placed.iter().flatten(), count) <= 1);
            prop_assert!(spread(placed.iter().map(|replicas| &replicas[0]), count) <= 1);
        }

        #[test]
        fn replicas_span_as_many_racks_as_they_can(
            count in 1i32..12, racks in 1i32..5, partitions in 1usize..40, factor in 1usize..5,
        ) {
            let factor = factor.min(count as usize);
            let rack = |id: i32| id % racks;
            let placed = place(brokers(count, |id| Some(rack(id).to_string())), partitions, factor);
            let present: std::collections::BTreeSet<_> = (1..=count).map(rack).collect();
            for replicas in placed {
                let spanned: std::collections::BTreeSet<_> = replicas.into_iter().map(rack).collect();
                prop_assert_eq!(spanned.len(), factor.min(present.len()));
            }
        }
    }

    #[test]
    fn topics_that_come_one_by_one_fill_up_what_others_left() {
        let mut loads = BTreeMap::from([(1, 0), (2, 0), (3, 0)]);
        for _ in 0..7 {
            let candidates =
                loads.iter().map(|(id, n)| Candidate { id: *id, rack: None, replicas: *n, leaders: *n });
            let placed = place(candidates.collect(), 1, 1);
            *loads.get_mut(&placed[0][0]).unwrap() += 1;
        }
        assert_eq!(loads.into_values().collect::<Vec<_>>(), [3, 2, 2]);
    }
}
