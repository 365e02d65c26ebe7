//! The executors: one for each shard, one for control, and the watchdog over all.

use crate::control;
use crate::control::metadata_log::MetadataLog;
use crate::machine::metadata::Image;
use crate::node::Node;
use crate::shard::watchdog::{Pulse, Watched};
use crate::shard::{self, COLD_READS_MAX, Commit, ShardStart};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use ringlog_storage::recovery::Recovered;
use ringlog_storage::store::{REMOVALS_MAX, Store, StoreSettings};
use ringlog_storage::wal::writer::WalSettings;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use uuid::Uuid;

/// Preempt timer of every executor: shorter ones make glommio lose wake-ups (see `shard::watchdog`).
const PREEMPT: Duration = Duration::from_millis(10);
/// How long an executor spins before it parks.
const SPIN: Duration = Duration::from_micros(20);
/// Memory of each executor that the kernel knows beforehand, for WAL commits.
const REGISTERED_BYTES: usize = 8 << 20;
/// Threads of each shard that do its blocking work.
const BLOCKING_THREADS: usize = 8;
// Neither removing nor reading keeps segments from being written.
const _: () = assert!(REMOVALS_MAX + COLD_READS_MAX < BLOCKING_THREADS);
/// Bytes of one WAL file.
const WAL_FILE_BYTES: u64 = 64 << 20;
/// Cores from which on executors are pinned.
const PINNED_FROM: usize = 4;

/// Where executors run: pinned where there are cores enough.
pub(super) struct Placements {
    pub shards: Vec<Placement>,
    control: Placement,
}

impl Placements {
    /// One data shard a core; from [`PINNED_FROM`] cores on all are pinned and the control executor has one of
    /// its own.
    pub fn of(cores: &[usize], shards: Option<usize>, control_core: Option<usize>) -> Placements {
        if cores.len() < PINNED_FROM {
            let shards = vec![Placement::Unbound; shards.unwrap_or(cores.len())];
            return Placements { shards, control: control_core.map_or(Placement::Unbound, Placement::Fixed) };
        }
        let control = control_core.unwrap_or(cores[cores.len() - 1]);
        let free: Vec<usize> = cores.iter().copied().filter(|core| *core != control).collect();
        let shards = shards.unwrap_or(free.len());
        let shards = (0..shards).map(|i| Placement::Fixed(free[i % free.len()])).collect();
        Placements { shards, control: Placement::Fixed(control) }
    }
}

fn executor(name: &str, placement: Placement, registered: usize, blocking: usize) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(placement)
        .name(name)
        .preempt_timer(PREEMPT)
        .spin_before_park(SPIN)
        .io_memory(registered)
        .blocking_thread_pool_placement(glommio::PoolPlacement::Unbound(blocking))
}

/// All executors, the control executor last.
pub(super) fn watched(node: &Arc<Node>) -> Vec<Watched> {
    let watch = |(id, pulse): (usize, &Arc<Pulse>)| {
        let node = Arc::clone(node);
        let has_mail = move || match node.mailboxes.get(id) {
            Some(mailbox) => mailbox.has_mail(),
            None => node.control.has_mail(),
        };
        Watched::new(Arc::clone(pulse), has_mail)
    };
    node.pulses.iter().enumerate().map(watch).collect()
}

pub(super) fn start_control(
    node: &Arc<Node>,
    image: &Arc<Image>,
    log: MetadataLog,
    placements: &Placements,
) -> Result<ExecutorJoinHandle<()>, String> {
    let (node, image) = (Arc::clone(node), Arc::clone(image));
    let pulse = Arc::clone(&node.pulses[node.shards]);
    executor("control", placements.control.clone(), 64 << 10, 1)
        .spawn(move || control::run(node, image, log, pulse))
        .map_err(|e| format!("the control executor cannot be started: {e}"))
}

pub(super) fn start_shards(
    node: &Arc<Node>,
    image: &Arc<Image>,
    recovered: Recovered,
    placements: &Placements,
    ready: &mpsc::Sender<()>,
) -> Result<Vec<ExecutorJoinHandle<()>>, String> {
    let memory = usize::try_from(node.config.memory_bytes).unwrap_or(usize::MAX);
    let wal_max = node.config.wal_max_bytes;
    let settings = StoreSettings {
        wal: WalSettings {
            file_bytes: WAL_FILE_BYTES.min(wal_max / 4).max(1 << 20),
            max_bytes: wal_max,
            commits_in_flight: node.config.wal_commits_in_flight as usize,
        },
        memory_bytes: memory,
        checkpoint_bytes: wal_max / 4,
        checkpoint_ms: 30_000,
    };
    let mut handles = Vec::new();
    for (id, state) in recovered.shards.into_iter().enumerate() {
        let (node, image, ready) = (Arc::clone(node), Arc::clone(image), ready.clone());
        let store_seed = Uuid::new_v4().as_u64_pair().0;
        let handle = executor(
            &format!("shard-{id}"),
            placements.shards[id].clone(),
            REGISTERED_BYTES,
            BLOCKING_THREADS,
        )
        .spawn(move || {
            let store = Store::<Commit>::new(settings, state, store_seed);
            shard::run(ShardStart { id, node, store, image, ready })
        })
        .map_err(|e| format!("shard {id} cannot be started: {e}"))?;
        handles.push(handle);
    }
    Ok(handles)
}
