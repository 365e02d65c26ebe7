//! Who leads a partition, and what happens when a broker stops doing so.
//!
//! Order of election: in-sync replicas (the preferred one first), eligible leader replicas (KIP-966), the last known
//! leader, and, where `unclean.leader.election.enable` allows it, any replica. A partition that nobody may lead
//! waits without a leader; it never loses the memory of who could.

use super::record::Partition;

/// How a broker lost its place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// A new process that still holds every acknowledged record: it gives up leadership, nothing else.
    Restarted,
    /// Out of service, but what it holds is whole: out of the in-sync replicas, eligible while those are too few.
    Fenced,
    /// It crashed with records acknowledged from memory (`async`): neither in sync nor eligible, but if it led and
    /// nobody else is left, it is the last known leader.
    Unsynced,
    /// What it held is gone or damaged: neither in sync, nor eligible, nor last known leader.
    Lost,
}

/// The partition after a broker's departure, still in the same epochs and without an election. The broker does not
/// lead any more.
pub(super) fn depart(partition: &Partition, broker: i32, how: Departure, min_isr: usize) -> Partition {
    let mut after = partition.clone();
    let was_in_sync = after.isr.contains(&broker);
    let led = after.leader == Some(broker);
    if led {
        after.leader = None;
    }
    if how == Departure::Restarted {
        return after;
    }
    after.isr.retain(|id| *id != broker);
    match how {
        Departure::Fenced if was_in_sync && after.isr.len() < min_isr => after.elr.push(broker),
        Departure::Unsynced | Departure::Lost => after.elr.retain(|id| *id != broker),
        Departure::Restarted | Departure::Fenced => {}
    }
    if led && after.isr.is_empty() && how != Departure::Lost {
        after.last_known_leader = Some(broker);
    }
    if how == Departure::Lost && after.last_known_leader == Some(broker) {
        after.last_known_leader = None;
    }
    after
}

/// Gives a partition without a leader one, if one of its replicas may lead. Epochs stay as they are.
pub(super) fn elect(partition: &mut Partition, usable: impl Fn(i32) -> bool, unclean: bool) {
    assert!(partition.leader.is_none(), "an election replaces nobody");
    let candidates = || partition.replicas.iter().copied().filter(|id| usable(*id));
    let in_sync = candidates().find(|id| partition.isr.contains(id));
    let eligible = || candidates().find(|id| partition.elr.contains(id));
    let last_known =
        || candidates().find(|id| partition.isr.is_empty() && partition.last_known_leader == Some(*id));
    let any = || candidates().next().filter(|_| unclean);
    if let Some(leader) = in_sync {
        partition.leader = Some(leader);
    } else if let Some(leader) = eligible() {
        // Eligible replicas hold every acknowledged record, but are in sync with nobody.
        partition.isr.push(leader);
        partition.elr.retain(|id| *id != leader);
        partition.leader = Some(leader);
    } else if let Some(leader) = last_known().or_else(any) {
        partition.isr = vec![leader];
        partition.elr.clear();
        partition.leader = Some(leader);
    }
    if partition.leader.is_some() {
        partition.last_known_leader = None;
    }
}

/// The partition with the epochs that its changes ask for; none if nothing changed. A broker that gave up
/// leadership and got it back leads in a new epoch.
pub(super) fn with_epochs(before: &Partition, mut after: Partition, gave_up: bool) -> Option<Partition> {
    if !gave_up && *before == after {
        return None;
    }
    if gave_up || before.leader != after.leader {
        after.leader_epoch += 1;
    }
    after.partition_epoch += 1;
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(isr: &[i32], elr: &[i32], leader: Option<i32>) -> Partition {
        Partition {
            replicas: vec![1, 2, 3],
            isr: isr.to_vec(),
            elr: elr.to_vec(),
            last_known_leader: None,
            leader,
            leader_epoch: 5,
            partition_epoch: 8,
        }
    }

    #[test]
    fn departures() {
        // (how, isr before, elr before) -> (isr, elr, last known leader) after broker 1, the leader, departs; min ISR 2
        type Case = (Departure, &'static [i32], &'static [i32], &'static [i32], &'static [i32], Option<i32>);
        let cases: [Case; 7] = [
            (Departure::Restarted, &[1, 2, 3], &[], &[1, 2, 3], &[], None),
            (Departure::Fenced, &[1, 2, 3], &[], &[2, 3], &[], None),
            (Departure::Fenced, &[1, 2], &[], &[2], &[1], None),
            (Departure::Fenced, &[1], &[2], &[], &[2, 1], Some(1)),
            (Departure::Unsynced, &[1], &[], &[], &[], Some(1)),
            (Departure::Lost, &[1], &[], &[], &[], None),
            (Departure::Lost, &[1, 2], &[3], &[2], &[3], None),
        ];
        for (how, isr, elr, isr_after, elr_after, last_known) in cases {
            let after = depart(&partition(isr, elr, Some(1)), 1, how, 2);
            let found = (&after.isr[..], &after.elr[..], after.last_known_leader, after.leader);
            assert_eq!(found, (isr_after, elr_after, last_known, None), "{how:?} {isr:?} {elr:?}");
        }
        let follower = depart(&partition(&[1, 2, 3], &[], Some(1)), 2, Departure::Fenced, 2);
        assert_eq!(
            (follower.leader, follower.isr),
            (Some(1), vec![1, 3]),
            "a follower leaves the leader alone"
        );
    }

    #[test]
    fn order_of_election() {
        let elected = |mut p: Partition, usable: &[i32], unclean: bool| {
            elect(&mut p, |id| usable.contains(&id), unclean);
            (p.leader, p.isr, p.elr, p.last_known_leader)
        };
        let all = &[1, 2, 3];
        assert_eq!(elected(partition(&[2, 1], &[], None), all, false), (Some(1), vec![2, 1], vec![], None));
        assert_eq!(
            elected(partition(&[1], &[2, 3], None), &[3, 2], false),
            (Some(2), vec![1, 2], vec![3], None)
        );
        let mut last = partition(&[], &[], None);
        last.last_known_leader = Some(3);
        assert_eq!(elected(last.clone(), all, false), (Some(3), vec![3], vec![], None));
        assert_eq!(elected(last.clone(), &[1], false), (None, vec![], vec![], Some(3)));
        assert_eq!(elected(last, &[1], true), (Some(1), vec![1], vec![], None));
        assert_eq!(elected(partition(&[], &[], None), all, false), (None, vec![], vec![], None));
    }

    #[test]
    fn epochs() {
        let before = partition(&[1, 2], &[], Some(1));
        assert_eq!(with_epochs(&before, before.clone(), false), None);
        let again = with_epochs(&before, before.clone(), true).unwrap();
        assert_eq!((again.leader_epoch, again.partition_epoch), (6, 9), "led again, in a new epoch");
        let shrunk = with_epochs(&before, partition(&[1], &[], Some(1)), false).unwrap();
        assert_eq!((shrunk.leader_epoch, shrunk.partition_epoch), (5, 9));
    }
}
