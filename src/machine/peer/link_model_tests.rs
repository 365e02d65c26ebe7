//! One link and anything at random, as its shell sees it.

use super::tests::{address, process, purpose};
use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Attempt,
    Connected(u8),
    Accepted(u8, u128),
    Denied(u8, u128),
    Failed(u8, u8),
    Received,
    Inbound(u128),
    Contact,
    Want,
    Unwant,
    Urgent(bool),
    Addresses(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![0u64..300, 0u64..3_000, 0u64..40_000].prop_map(Step::Pass),
        6 => Just(Step::Attempt),
        5 => (0u8..4).prop_map(Step::Connected),
        5 => (0u8..4, 1u128..4).prop_map(|(late, process)| Step::Accepted(late, process)),
        1 => (0u8..4, 1u128..4).prop_map(|(late, process)| Step::Denied(late, process)),
        2 => (0u8..4, 0u8..6).prop_map(|(late, failure)| Step::Failed(late, failure)),
        2 => Just(Step::Received),
        1 => (1u128..4).prop_map(Step::Inbound),
        1 => Just(Step::Contact),
        2 => Just(Step::Want),
        1 => Just(Step::Unwant),
        1 => any::<bool>().prop_map(Step::Urgent),
        1 => (0u8..12).prop_map(Step::Addresses),
    ]
}

const FAILURES_AT_RANDOM: [Failure; 6] = [
    Failure::Refused,
    Failure::TimedOut,
    Failure::Unreachable,
    Failure::Closed,
    Failure::Reset,
    Failure::Malformed,
];

/// What a shell would think of the actions: at most one connection, and every one is ended once.
#[derive(Default)]
struct Shell {
    open: Option<u64>,
    up: bool,
    numbers: u64,
}

impl Shell {
    fn take(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Connect { connection, .. } => {
                    assert_eq!(self.open, None, "one connection at a time");
                    assert_eq!(*connection, self.numbers, "the number that was given");
                    self.open = Some(*connection);
                }
                Action::Up { connection, .. } => {
                    assert_eq!((self.open, self.up), (Some(*connection), false));
                    self.up = true;
                }
                Action::Close { connection } => {
                    assert_eq!(self.open, Some(*connection), "what is closed is open");
                    (self.open, self.up) = (None, false);
                }
                Action::Ping { connection } => assert_eq!((self.open, self.up), (Some(*connection), true)),
                Action::LookUp | Action::Log(_) | Action::Hint(_) => {}
            }
        }
    }
}

fn apply(link: &mut Link, shell: &mut Shell, now: u64, step: &Step, out: &mut Vec<Action>) {
    // Mostly the present connection, sometimes one that is over.
    let which = |late: u8, shell: &Shell| shell.numbers.saturating_sub(u64::from(late / 3));
    match *step {
        Step::Pass(_) => {}
        Step::Attempt => {
            if link.due_ms().is_some_and(|due| due <= now) {
                shell.numbers += 1;
                link.attempt(now, shell.numbers, out);
            }
        }
        Step::Connected(late) => link.connected(now, which(late, shell)),
        Step::Accepted(late, number) => link.accepted(now, which(late, shell), process(number), out),
        Step::Denied(late, number) => {
            let connection = which(late, shell);
            if shell.open == Some(connection) {
                (shell.open, shell.up) = (None, false);
            }
            link.denied(now, connection, process(number), Refusal::NotReady, out);
        }
        Step::Failed(late, failure) => {
            let connection = which(late, shell);
            if shell.open == Some(connection) {
                (shell.open, shell.up) = (None, false);
            }
            link.failed(now, connection, FAILURES_AT_RANDOM[usize::from(failure)], out);
        }
        Step::Received => link.received(now, shell.numbers),
        Step::Inbound(number) => link.inbound(now, &process(number), out),
        Step::Contact => link.contact(now),
        Step::Want => link.want(now),
        Step::Unwant => link.unwant(out),
        Step::Urgent(urgent) => link.set_purpose(now, purpose(urgent)),
        Step::Addresses(count) => {
            link.set_addresses(now, &(0..count).map(address).collect::<Vec<_>>());
        }
    }
}

proptest! {
    #[test]
    fn any_inputs_keep_the_invariants(seed: u64, steps in prop::collection::vec(step(), 1..120)) {
        let mut link = Link::new(purpose(false), false, SplitMix::new(seed));
        let mut again = link.clone();
        let (mut shell, mut shell_again) = (Shell::default(), Shell::default());
        let mut now = 0;
        for step in steps {
            if let Step::Pass(ms) = step {
                now += ms;
            }
            let mut out = Vec::new();
            link.on_time(now, &mut out);
            apply(&mut link, &mut shell, now, &step, &mut out);
            link.check();
            shell.take(&out);
            prop_assert_eq!((link.connection(), link.is_up()), (shell.open, shell.up));
            // Time alone asks for nothing twice.
            let mut more = Vec::new();
            link.on_time(now, &mut more);
            prop_assert!(link.next_deadline().is_none_or(|at| at > now), "stuck at {now}");
            shell.take(&more);
            // The same inputs have the same outputs.
            let mut out_again = Vec::new();
            again.on_time(now, &mut out_again);
            apply(&mut again, &mut shell_again, now, &step, &mut out_again);
            shell_again.take(&out_again);
            prop_assert_eq!(&out, &out_again);
            again.on_time(now, &mut more);
            (shell_again.open, shell_again.up) = (shell.open, shell.up);
        }
    }
}
