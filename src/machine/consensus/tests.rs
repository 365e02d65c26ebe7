//! Tests of the machine alone: what the simulator would meet too rarely, or could not see.

use super::log::Stored;
use super::membership::{Change, Step};
use super::*;
use bytes::Bytes;
use uuid::Uuid;

fn peer(node: i32) -> Peer {
    Peer { node, directory: Uuid::from_u128(100 + node as u128) }
}

fn settings(node: i32) -> Settings {
    Settings {
        me: peer(node),
        incarnation: 7,
        seed: 1,
        timing: Profile::Lan.timing(),
        limits: Limits::default(),
        journal: Journal::SILENT,
    }
}

fn voters(number: i32) -> Stored {
    let peers: Vec<Peer> = (0..number).map(peer).collect();
    let mut stored = Stored::founding(Members::founding(Uuid::from_u128(9), &peers), Bytes::new());
    stored.count_up();
    stored
}

/// A machine, its clock, and what it asked for.
struct Lab {
    machine: Consensus,
    now_ms: u64,
    out: Actions,
}

impl Lab {
    fn new(node: i32, stored: Stored) -> Lab {
        let mut out = Vec::new();
        let machine = Consensus::new(settings(node), stored, 0, &mut out);
        Lab { machine, now_ms: 0, out }
    }

    /// Takes what was asked for; entries and snapshots are applied at once, writes are not done.
    fn take(&mut self) -> Actions {
        let mut all = Vec::new();
        while !self.out.is_empty() {
            for action in std::mem::take(&mut self.out) {
                match &action {
                    Action::Apply(entries) => {
                        let last = entries.last().expect("an apply is not empty").index;
                        self.machine.applied(last, &mut self.out);
                    }
                    Action::Install(snapshot) => self.machine.applied(snapshot.index, &mut self.out),
                    _ => {}
                }
                all.push(action);
            }
        }
        self.machine.check();
        all
    }

    /// Ticks until something that is looked for is asked for; all writes are done where `writes` says so.
    fn until(&mut self, writes: bool, looked_for: impl Fn(&Action) -> bool) -> Actions {
        let mut all = Vec::new();
        for _ in 0..1_000 {
            self.now_ms += TICK_MS;
            self.machine.tick(self.now_ms, &mut self.out);
            loop {
                let taken = self.take();
                let mut numbers: Vec<u64> = taken.iter().filter_map(written).collect();
                all.extend(taken);
                if !writes || numbers.is_empty() {
                    break;
                }
                numbers.sort_unstable();
                numbers.into_iter().for_each(|number| self.machine.persisted(number, &mut self.out));
            }
            if all.iter().any(&looked_for) {
                return all;
            }
        }
        panic!("it never came: {all:?}");
    }
}

fn written(action: &Action) -> Option<u64> {
    if let Action::Persist(write) = action { Some(write.number) } else { None }
}

fn leads(action: &Action) -> bool {
    matches!(action, Action::Role(Role { part: Part::Leader, .. }))
}

fn sends(action: &Action) -> bool {
    matches!(action, Action::Send { .. } | Action::SendBulk { .. })
}

/// raft-rs makes a single voter leader, and has entries for its learners, in a Ready whose term is not durable.
#[test]
fn a_single_voter_says_nothing_before_its_term_is_durable() {
    let mut lab = Lab::new(0, voters(1));
    lab.until(true, leads);
    let step = lab.machine.change(Change::Learner(peer(1)), &mut lab.out);
    assert_eq!(step, Ok(Step::AddLearner(peer(1))));
    let all = lab.until(true, |action| matches!(action, Action::Members(_)));
    let members = all.iter().find_map(|a| if let Action::Members(m) = a { Some(m) } else { None });
    let mut snapshot = (**voters(1).snapshot().expect("founded")).clone();
    snapshot.members = members.expect("looked for").clone();
    (snapshot.index, snapshot.term) = (4, 2);
    let mut again = Stored::new(Some(snapshot));
    again.count_up();
    let mut lab = Lab::new(0, again.finish().expect("it is whole"));
    let all = lab.until(false, leads);
    assert!(all.iter().any(|action| written(action).is_some()), "the term is to be written");
    for _ in 0..100 {
        lab.now_ms += TICK_MS;
        lab.machine.tick(lab.now_ms, &mut lab.out);
    }
    let after = lab.take();
    let silent = all.iter().chain(&after).all(|action| !sends(action));
    assert!(silent, "nothing leaves before the term is durable");
    let numbers: Vec<u64> = all.iter().filter_map(written).collect();
    numbers.into_iter().for_each(|number| lab.machine.persisted(number, &mut lab.out));
    assert!(lab.take().iter().any(sends), "and then it does");
}

#[test]
fn a_fresh_folder_neither_votes_nor_campaigns() {
    let mut fresh = Lab::new(2, Stored::new(None));
    for _ in 0..500 {
        fresh.now_ms += TICK_MS;
        fresh.machine.tick(fresh.now_ms, &mut fresh.out);
    }
    assert_eq!(fresh.take(), []);
    let question = campaign_of(0);
    fresh.machine.step(peer(0), &question, &mut fresh.out).expect("it is well formed");
    assert_eq!(fresh.take(), []);
}

/// The question of a voter that campaigns.
fn campaign_of(node: i32) -> Bytes {
    let mut lab = Lab::new(node, voters(3));
    for other in (0..3).filter(|other| *other != node) {
        let known = super::log::Remembered { count: 0, run: 0 };
        let answer = super::frame::Frame::Remember { count: 1, run: 7, known }.encode();
        lab.machine.step(peer(other), &answer, &mut lab.out).expect("it is well formed");
    }
    let asks = |action: &Action| matches!(action, Action::Send { frame, .. } if peek(frame).is_some());
    let all = lab.until(true, asks);
    let frame = all.iter().find_map(|action| match action {
        Action::Send { to, frame } if peek(frame).is_some() && to.node == 3 - node - 1 => Some(frame.clone()),
        _ => None,
    });
    frame.unwrap_or_else(|| panic!("it campaigns: {all:?}"))
}

#[test]
fn a_voter_without_room_neither_votes_nor_campaigns() {
    let mut lab = Lab::new(0, voters(1));
    lab.machine.set_room(false);
    for _ in 0..500 {
        lab.now_ms += TICK_MS;
        lab.machine.tick(lab.now_ms, &mut lab.out);
    }
    assert!(!lab.take().iter().any(leads));
    lab.machine.set_room(true);
    lab.until(true, leads);
}

#[test]
fn malformed_and_misdirected_frames_are_refused() {
    let mut lab = Lab::new(1, voters(3));
    for node in [0, 2] {
        let known = super::log::Remembered { count: 0, run: 0 };
        let answer = super::frame::Frame::Remember { count: 1, run: 7, known }.encode();
        lab.machine.step(peer(node), &answer, &mut lab.out).expect("it is well formed");
    }
    assert!(lab.machine.takes_part());
    let frame = |change: fn(&mut raft::eraftpb::Message)| {
        let mut message = raft::eraftpb::Message { from: 1, to: 2, term: 5, ..Default::default() };
        message.set_msg_type(raft::eraftpb::MessageType::MsgHeartbeat);
        change(&mut message);
        super::frame::Frame::Raft(Box::new(message)).encode()
    };
    let mut step = |frame: Bytes| lab.machine.step(peer(0), &frame, &mut lab.out);
    assert_eq!(step(frame(|_| {})), Ok(()));
    assert_eq!(step(frame(|m| m.from = 3)), Err(BadFrame::Misdirected));
    assert_eq!(step(frame(|m| m.to = 1)), Err(BadFrame::Misdirected));
    assert_eq!(step(frame(|m| m.term = 0)), Err(BadFrame::Malformed));
    use raft::eraftpb::MessageType::{MsgPropose, MsgReadIndex, MsgSnapshot, MsgUnreachable};
    assert_eq!(step(frame(|m| m.set_msg_type(MsgPropose))), Err(BadFrame::Malformed));
    assert_eq!(step(frame(|m| m.set_msg_type(MsgSnapshot))), Err(BadFrame::Malformed));
    assert_eq!(step(frame(|m| m.set_msg_type(MsgUnreachable))), Err(BadFrame::Malformed));
    assert_eq!(
        step(frame(|m| m.set_msg_type(MsgReadIndex))),
        Err(BadFrame::Malformed),
        "raft-rs would panic"
    );
    assert_eq!(step(Bytes::from_static(b"\x01\xff")), Err(BadFrame::Malformed));
    assert_eq!(step(Bytes::new()), Err(BadFrame::Malformed));
}

/// A leader that knows that this folder held entries which it does not hold: raft-rs would panic.
#[test]
fn a_folder_that_lost_entries_is_refused() {
    let mut lab = Lab::new(1, voters(2));
    let known = super::log::Remembered { count: 0, run: 0 };
    let answer = super::frame::Frame::Remember { count: 1, run: 7, known }.encode();
    lab.machine.step(peer(0), &answer, &mut lab.out).expect("it is well formed");
    let mut message = raft::eraftpb::Message { from: 1, to: 2, term: 5, commit: 9, ..Default::default() };
    message.set_msg_type(raft::eraftpb::MessageType::MsgHeartbeat);
    let frame = super::frame::Frame::Raft(Box::new(message)).encode();
    lab.machine.step(peer(0), &frame, &mut lab.out).expect("it is well formed");
    let refused = RefusedFolder::LostEntries { leader: 0, held: 9, last: 1 };
    assert!(lab.take().contains(&Action::Refused(refused)));
    assert!(!lab.machine.takes_part());
}

#[test]
fn proposals_are_bounded() {
    let mut lab = Lab::new(0, voters(1));
    let nothing = Bytes::new;
    let some = || Bytes::from_static(b"x");
    assert_eq!(lab.machine.propose(some(), nothing(), &mut lab.out), Err(Refusal::NoPart));
    lab.now_ms += TICK_MS;
    lab.machine.tick(lab.now_ms, &mut lab.out);
    let refusal = lab.machine.propose(some(), nothing(), &mut lab.out);
    assert_eq!(refusal, Err(Refusal::NotLeader { leader: None }));
    lab.until(true, leads);
    assert_eq!(lab.machine.propose(nothing(), nothing(), &mut lab.out), Err(Refusal::Size));
    let large = Bytes::from(vec![0; Limits::default().proposal_bytes + 1]);
    assert_eq!(lab.machine.propose(large, nothing(), &mut lab.out), Err(Refusal::Size));
    let proposed =
        (0..10_000).take_while(|_| lab.machine.propose(some(), nothing(), &mut lab.out).is_ok()).count();
    assert!((100..1_000).contains(&proposed), "{proposed} writes wait for a disk that does not answer");
    assert_eq!(lab.machine.propose(some(), nothing(), &mut lab.out), Err(Refusal::Busy));
    lab.machine.set_room(false);
    assert_eq!(lab.machine.propose(some(), nothing(), &mut lab.out), Err(Refusal::NoRoom));
}
