//! The seeded source of pauses, for tests: see `perturb`.
//!
//! A seed gives each step its own longest pause, so that in one run the checks are slow and in another the commits
//! are. Which executor gets how far is the machine's doing: the same seed perturbs in the same way, and often but
//! not always shows the same fault.

use super::{Rule, Step};
use crossbeam_queue::SegQueue;
use ringlog_tests::rng::Rng;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

const STEPS: usize = Step::Commit as usize + 1;
/// Longest pauses that a seed chooses from, microseconds.
const PAUSES_US: [usize; 4] = [0, 100, 1000, 4000];
/// How often a step that stands at a gate looks again.
const GATE_PERIOD: Duration = Duration::from_micros(500);

/// What one broker is perturbed by.
#[derive(Default)]
pub struct Perturbation {
    seed: u64,
    pauses_us: [usize; STEPS],
    shuffles: bool,
    undone: Option<Rule>,
    held: [AtomicBool; STEPS],
    standing: [AtomicUsize; STEPS],
    passes: [AtomicUsize; STEPS],
    disk_full: AtomicBool,
    paused: AtomicU64,
    overtaken: AtomicU64,
}

impl Perturbation {
    /// Pauses and reorders as `seed` says, with one of the rules undone, if any.
    pub fn seeded(seed: u64, undone: Option<Rule>) -> Perturbation {
        let mut rng = Rng::new(seed);
        let mut pauses_us = [0; STEPS];
        pauses_us.iter_mut().for_each(|pause| *pause = PAUSES_US[rng.below(PAUSES_US.len())]);
        // Mail is waited for by everything else.
        pauses_us[Step::Mail as usize] = pauses_us[Step::Mail as usize].min(1000);
        Perturbation { seed, pauses_us, shuffles: true, undone, ..Perturbation::default() }
    }

    /// Everything that comes to this step stands still until it is let go.
    pub fn hold(&self, step: Step) {
        self.held[step as usize].store(true, Ordering::SeqCst);
    }

    /// See [`hold`](Self::hold).
    pub fn let_go(&self, step: Step) {
        self.held[step as usize].store(false, Ordering::SeqCst);
    }

    /// Lets everything go.
    pub fn open_gates(&self) {
        self.held.iter().for_each(|held| held.store(false, Ordering::SeqCst));
    }

    /// Lets those go that stand still at a step now, once those are gone that it let go before.
    pub fn pass(&self, step: Step) {
        let passes = &self.passes[step as usize];
        if passes.load(Ordering::SeqCst) == 0 {
            passes.store(self.standing(step), Ordering::SeqCst);
        }
    }

    /// Whether something that stands at a step goes on. It does not stand any more when its pass is used up.
    fn goes_on(&self, step: Step) -> bool {
        let (passes, standing) = (&self.passes[step as usize], &self.standing[step as usize]);
        standing.fetch_sub(1, Ordering::SeqCst);
        let goes_on = !self.held[step as usize].load(Ordering::SeqCst)
            || passes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if !goes_on {
            standing.fetch_add(1, Ordering::SeqCst);
        }
        goes_on
    }

    /// How many stand still at a step.
    pub fn standing(&self, step: Step) -> usize {
        self.standing[step as usize].load(Ordering::SeqCst)
    }

    /// Says that the disk is full, or has room.
    pub fn fill_disk(&self, full: bool) {
        self.disk_full.store(full, Ordering::SeqCst);
    }

    /// Pauses made so far, and messages that overtook an older one.
    pub fn counts(&self) -> (u64, u64) {
        (self.paused.load(Ordering::Relaxed), self.overtaken.load(Ordering::Relaxed))
    }
}

thread_local! {
    /// Of a test's thread: what the next broker is perturbed by. Of an executor: what it is.
    static ACTIVE: RefCell<Option<(Arc<Perturbation>, Rng)>> = const { RefCell::new(None) };
    /// Whether this is a control executor.
    static CONTROLS: Cell<bool> = const { Cell::new(false) };
}

/// What a broker is perturbed by.
pub struct Source(Option<Arc<Perturbation>>);

impl Source {
    /// What this thread's next broker is to be perturbed by.
    pub fn install(perturbation: &Arc<Perturbation>) {
        ACTIVE.set(Some((Arc::clone(perturbation), Rng::new(perturbation.seed))));
    }

    /// What this thread installed.
    #[must_use]
    pub fn current() -> Source {
        Source(ACTIVE.with_borrow(|active| active.as_ref().map(|(source, _)| Arc::clone(source))))
    }

    /// Whether the test says that the disk is full.
    #[must_use]
    pub fn disk_is_full(&self) -> bool {
        self.0.as_ref().is_some_and(|source| source.disk_full.load(Ordering::SeqCst))
    }
}

/// Puts an executor's thread under the perturbation of its broker: a shard's, or the control executor's.
pub fn enter(source: &Source, shard: Option<usize>) {
    CONTROLS.set(shard.is_none());
    let number = shard.map_or(0, |shard| shard + 1);
    let active = source.0.as_ref().map(|source| {
        let seed = source.seed ^ (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (Arc::clone(source), Rng::new(seed))
    });
    ACTIVE.set(active);
}

/// Waits a while, or at the gate, or not at all.
pub async fn pause(step: Step) {
    let Some((source, us)) = ACTIVE.with_borrow_mut(|active| {
        let (source, rng) = active.as_mut()?;
        let longest = source.pauses_us[step as usize];
        let us = if longest == 0 || rng.below(2) == 0 { 0 } else { rng.below(longest) };
        Some((Arc::clone(source), us))
    }) else {
        return;
    };
    source.standing[step as usize].fetch_add(1, Ordering::SeqCst);
    while !source.goes_on(step) {
        glommio::timer::sleep(GATE_PERIOD).await;
    }
    if us > 0 {
        source.paused.fetch_add(1, Ordering::Relaxed);
        glommio::timer::sleep(Duration::from_micros(us as u64)).await;
    }
}

/// Whether the test undid this rule.
pub fn undone(rule: Rule) -> bool {
    ACTIVE.with_borrow(|active| active.as_ref().is_some_and(|(source, _)| source.undone == Some(rule)))
}

/// What is in a mailbox. Its one receiver takes messages of different senders in any order, but the control
/// executor's never before older ones.
pub struct Queue<T> {
    arrived: SegQueue<(Sender, T)>,
    /// The receiver's own: here between its looks.
    lanes: SegQueue<Lanes<T>>,
    len: AtomicUsize,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { arrived: SegQueue::new(), lanes: SegQueue::new(), len: AtomicUsize::new(0) }
    }
}

impl<T> Queue<T> {
    /// Puts a message in.
    pub fn push(&self, message: T) {
        let sender = Sender { thread: std::thread::current().id(), controls: CONTROLS.get() };
        self.len.fetch_add(1, Ordering::Relaxed);
        self.arrived.push((sender, message));
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Takes a message out.
    pub fn pop(&self) -> Option<T> {
        let mut lanes = self.lanes.pop().unwrap_or_default();
        while let Some((sender, message)) = self.arrived.pop() {
            lanes.put(sender, message);
        }
        let message = ACTIVE.with_borrow_mut(|active| match active {
            Some((source, rng)) if source.shuffles => lanes.take_any(source, rng),
            _ => lanes.take_oldest(),
        });
        self.lanes.push(lanes);
        if message.is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        message
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Sender {
    thread: ThreadId,
    controls: bool,
}

struct Lanes<T> {
    by_sender: Vec<(Sender, VecDeque<(u64, T)>)>,
    numbers: u64,
}

impl<T> Default for Lanes<T> {
    fn default() -> Lanes<T> {
        Lanes { by_sender: Vec::new(), numbers: 0 }
    }
}

impl<T> Lanes<T> {
    fn put(&mut self, sender: Sender, message: T) {
        self.numbers += 1;
        let message = (self.numbers, message);
        match self.by_sender.iter_mut().find(|(other, _)| *other == sender) {
            Some((_, lane)) => lane.push_back(message),
            None => self.by_sender.push((sender, VecDeque::from([message]))),
        }
    }

    fn take_oldest(&mut self) -> Option<T> {
        let waiting = self.by_sender.iter_mut().map(|(_, lane)| lane).filter(|lane| !lane.is_empty());
        let lane = waiting.min_by_key(|lane| lane[0].0)?;
        lane.pop_front().map(|(_, message)| message)
    }

    fn take_any(&mut self, source: &Perturbation, rng: &mut Rng) -> Option<T> {
        let oldest =
            self.by_sender.iter().filter_map(|(_, lane)| lane.front()).map(|(number, _)| *number).min();
        let may_overtake = |sender: &Sender| !sender.controls || source.undone == Some(Rule::ImagesWait);
        let may_go = |(sender, lane): &(Sender, VecDeque<(u64, T)>)| {
            lane.front().is_some_and(|(number, _)| Some(*number) == oldest || may_overtake(sender))
        };
        let waiting = self.by_sender.iter_mut().filter(|one| may_go(one));
        let mut waiting: Vec<_> = waiting.map(|(_, lane)| lane).collect();
        if waiting.is_empty() {
            return None;
        }
        let at = rng.below(waiting.len());
        let lane = &mut waiting[at];
        let any = source.undone == Some(Rule::MailOfOneSender);
        let place = if any { rng.below(lane.len()) } else { 0 };
        let (number, message) = lane.remove(place)?;
        if Some(number) != oldest {
            source.overtaken.fetch_add(1, Ordering::Relaxed);
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what three senders sent, ten messages each, as `perturbation` says.
    fn taken(perturbation: Perturbation) -> (Vec<(usize, usize)>, u64) {
        let queue = Queue::default();
        for sender in 0..3 {
            std::thread::scope(|scope| scope.spawn(|| (0..10).for_each(|n| queue.push((sender, n)))).join())
                .unwrap();
        }
        let perturbation = Arc::new(perturbation);
        enter(&Source(Some(Arc::clone(&perturbation))), Some(0));
        let taken = std::iter::from_fn(|| queue.pop()).collect();
        ACTIVE.set(None);
        (taken, perturbation.counts().1)
    }

    #[test]
    fn senders_overtake_one_another_and_never_themselves() {
        let mut overtaken = 0;
        for seed in 0..20 {
            let (all, overtook) = taken(Perturbation::seeded(seed, None));
            assert_eq!(all.len(), 30);
            for sender in 0..3 {
                assert!(all.iter().filter(|(of, _)| *of == sender).map(|(_, n)| *n).eq(0..10));
            }
            overtaken += overtook;
        }
        assert!(overtaken > 0);
        assert!(taken(Perturbation::default()).0.is_sorted(), "nothing is perturbed without a seed");
    }

    #[test]
    fn with_the_rule_undone_they_overtake_themselves() {
        let (all, _) = taken(Perturbation::seeded(1, Some(Rule::MailOfOneSender)));
        let first: Vec<_> = all.iter().filter(|(of, _)| *of == 0).map(|(_, n)| *n).collect();
        assert_eq!(first.len(), 10);
        assert!(!first.is_sorted());
    }
}
