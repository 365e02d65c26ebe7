//! The seam where tests of the shards reach in: each step that is done off a shard passes here on its way back.
//! In the product there is nothing here: the functions are empty and the mail is a plain queue.
//!
//! In this crate's own tests a seeded source pauses the steps and lets them overtake one another, as far as the
//! real thing may. What the shards rely on stays:
//!
//! - Messages of one sender keep their order: requests forwarded over one connection, their answers, and a fetch that
//!   leaves its watchers and takes them back.
//! - An image comes behind what was in the mailbox before it: a produce that was forwarded before a change of the
//!   metadata was proposed is there before the change.
//! - A task takes its first step as it is spawned: requests with a handler of their own start in the order sent.
//!
//! All else comes in any order: messages of different shards, jobs of the blocking pool, commits of the log, answers
//! of other executors.

#[cfg(not(test))]
mod product;
#[cfg(test)]
mod source;

#[cfg(not(test))]
pub use product::{Queue, Source, enter, pause, undone};
#[cfg(test)]
pub use source::{Perturbation, Queue, Source, enter, pause, undone};

/// What is done off the executor that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Mail is taken out of a mailbox.
    Mail,
    /// Another shard's answer is taken.
    Answer,
    /// The control executor's answer to a proposal is taken.
    Proposal,
    /// The metadata log was written.
    Metadata,
    /// A batch was checked, and perhaps decompressed and compressed, by the blocking pool.
    Check,
    /// Records were read from files by the blocking pool.
    Read,
    /// A job of the store is about to be done by the blocking pool, or was done.
    Job,
    /// A commit of the log is about to be written.
    Commit,
}

/// A rule that a test undoes, to see that it would be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Messages of one sender stay in order.
    MailOfOneSender,
    /// An image does not overtake what was sent to the shard before.
    ImagesWait,
    /// An append waits behind those that wait for something off the shard.
    AppendsQueue,
    /// A request that changes the metadata goes alone.
    MetadataAlone,
    /// Requests with a handler of their own start in the order sent.
    HandlersInOrder,
    /// A request that is not answered and fails closes its connection.
    SilentFailureCloses,
}
