//! The shell of the control executor: it carries the metadata machine's I/O. One proposal after the other is
//! decided on the image that the one before left, made durable, applied, taken over by every shard, and only then
//! answered. Proposals that came meanwhile share the next write.

pub mod metadata_log;
pub mod raft_log;

use crate::clock::wall_ms;
use crate::machine::error::ErrorCode;
use crate::machine::metadata::{Batch, Command, Context, Image, Reply, decide, is_usable_id};
use crate::node::Node;
use crate::shard::Message;
use crate::shard::perturb::{self, Step, pause};
use crate::shard::watchdog::Pulse;
use futures_channel::oneshot;
use metadata_log::{Append, MetadataLog};
use std::sync::Arc;
use uuid::Uuid;

/// Most proposals that share one write.
const PROPOSALS_MAX: usize = 1024;
/// Most replicas that a partition may have: 1 while Ringlog does not replicate.
pub const REPLICATION_FACTOR_MAX: i16 = 1;

/// What is said to the control executor.
pub enum ControlMessage {
    /// Decide this, and tell what came of it once it is durable and on every shard.
    Propose {
        /// What.
        command: Command,
        /// Whom to tell.
        tell: oneshot::Sender<Result<Reply, ErrorCode>>,
    },
    /// A shard has taken over the image of this offset.
    Applied {
        /// The shard.
        shard: usize,
        /// The image's offset.
        offset: Option<i64>,
    },
    /// End.
    Stop,
}

type Tell = oneshot::Sender<Result<Reply, ErrorCode>>;

struct Control {
    node: Arc<Node>,
    image: Arc<Image>,
    log: Option<MetadataLog>,
    applied: Vec<Option<i64>>,
    queue: Vec<(Command, Tell)>,
    stopping: bool,
}

/// Runs the control executor until it is told to stop. `image` is what the log said at the start; the shards have
/// it already or are about to.
pub async fn run(node: Arc<Node>, image: Arc<Image>, log: MetadataLog, pulse: Arc<Pulse>) {
    pulse.register();
    perturb::enter(&node.perturb, None);
    let applied = vec![None; node.shards];
    let mut control = Control { node, image, log: Some(log), applied, queue: Vec::new(), stopping: false };
    while !control.stopping {
        pause(Step::Mail).await;
        // Proposals that came while the last ones were being published are here already.
        if control.queue.is_empty() {
            let message = control.node.control.receive().await;
            control.take(message);
        }
        pulse.beat();
        while control.queue.len() < PROPOSALS_MAX {
            let Some(message) = control.node.control.try_receive() else { break };
            control.take(message);
        }
        if !control.queue.is_empty() {
            control.decide_all(&pulse).await;
        }
    }
    pulse.leave();
}

impl Control {
    fn take(&mut self, message: ControlMessage) {
        match message {
            ControlMessage::Propose { command, tell } => self.queue.push((command, tell)),
            ControlMessage::Applied { shard, offset } => {
                self.applied[shard] = self.applied[shard].max(offset);
            }
            ControlMessage::Stop => self.stopping = true,
        }
    }

    async fn decide_all(&mut self, pulse: &Pulse) {
        let mut image = Image::clone(&self.image);
        let (mut batches, mut answers) = (Vec::new(), Vec::new());
        for (command, tell) in std::mem::take(&mut self.queue) {
            let mut new_id = usable_id;
            let mut context = Context {
                node_id: self.node.node_id,
                settings: &self.node.file,
                replication_factor_max: REPLICATION_FACTOR_MAX,
                new_id: &mut new_id,
            };
            let decision = decide(&image, &mut context, &command);
            if !decision.records.is_empty() {
                let offset = image.offset().map_or(0, |offset| offset + 1);
                let batch = Batch { offset, timestamp_ms: wall_ms(), records: decision.records };
                image.apply_batch(&batch);
                batches.push(batch.encode());
            }
            answers.push((decision.reply, tell));
        }
        let outcome = self.persist(batches, &image).await;
        pulse.beat();
        if let Err(code) = outcome {
            return answers.into_iter().for_each(|(_, tell)| drop(tell.send(Err(code))));
        }
        self.publish(Arc::new(image), pulse).await;
        for (reply, tell) in answers {
            let _ = tell.send(Ok(reply));
        }
    }

    /// Makes batches durable.
    async fn persist(&mut self, batches: Vec<Vec<u8>>, image: &Image) -> Result<(), ErrorCode> {
        if batches.is_empty() {
            return Ok(());
        }
        let mut log = self.log.take().expect("the log comes back after each write");
        let snapshot = log.wants_snapshot().then(|| image.snapshot()).flatten();
        let write = move || {
            let outcome = log.append(&batches);
            let outcome = outcome.and_then(|append| match (append, snapshot) {
                (Append::Done, Some(snapshot)) => log.snapshot(&snapshot).map(|()| Append::Done),
                (append, _) => Ok(append),
            });
            (log, outcome)
        };
        let (log, outcome) = glommio::executor().spawn_blocking(write).await;
        pause(Step::Metadata).await;
        self.log = Some(log);
        match outcome {
            Ok(Append::Done) => Ok(()),
            Ok(Append::Full) => Err(ErrorCode::KAFKA_STORAGE_ERROR),
            Err(error) => {
                self.node.fatal(&format!("writing the metadata log failed: {error}"));
                Err(ErrorCode::KAFKA_STORAGE_ERROR)
            }
        }
    }

    /// Hands the image to every shard and waits until all have taken it over.
    async fn publish(&mut self, image: Arc<Image>, pulse: &Pulse) {
        if self.image.offset() == image.offset() {
            return;
        }
        self.image = Arc::clone(&image);
        self.node.limit_connections(&image.broker_config(self.node.node_id, &self.node.file));
        for mailbox in &self.node.mailboxes {
            mailbox.send(Message::Image(Arc::clone(&image)));
        }
        while !self.stopping && self.applied.iter().any(|applied| *applied < image.offset()) {
            pause(Step::Mail).await;
            let message = self.node.control.receive().await;
            pulse.beat();
            self.take(message);
        }
    }
}

/// A random id that Kafka's clients take for one.
pub fn usable_id() -> Uuid {
    loop {
        let id = Uuid::new_v4();
        if is_usable_id(id) {
            return id;
        }
    }
}
