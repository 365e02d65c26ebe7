//! Nothing, see `perturb`.

use super::{Rule, Step};
pub use crossbeam_queue::SegQueue as Queue;

/// What a broker is perturbed by: nothing.
pub struct Source;

impl Source {
    /// Nothing.
    #[must_use]
    pub const fn current() -> Source {
        Source
    }

    /// Whether a test says that the disk is full.
    #[must_use]
    pub const fn disk_is_full(&self) -> bool {
        false
    }
}

/// Does nothing.
#[inline(always)]
pub const fn enter(_: &Source, _: Option<usize>) {}

/// Goes on at once.
#[inline(always)]
pub fn pause(_: Step) -> std::future::Ready<()> {
    std::future::ready(())
}

/// Never.
#[inline(always)]
pub const fn undone(_: Rule) -> bool {
    false
}
