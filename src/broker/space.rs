//! Room on the disk: produce is refused below a reserve, and a file keeps room for a start on a full disk.

use super::Options;
use crate::host;
use crate::node::Node;
use ringlog_storage::disk::{Disk, Open, block_ceil};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A file that keeps room for recovery: given up when a start finds the disk full, made again when there is room.
const RESERVE_FILE: &str = "RESERVE";
/// Its size...
const RESERVE_FILE_BYTES: u64 = 64 << 20;
/// ... or this part of a small file system.
const RESERVE_FILE_PART: u64 = 32;
/// How often the room on the disk is looked at.
const SPACE_PERIOD: Duration = Duration::from_millis(100);
/// Room that is kept for recovery, checkpoints and metadata: produce is refused below it...
const RESERVE_BYTES: u64 = 256 << 20;
/// ... or below this part of a small file system.
const RESERVE_PART: u64 = 8;

/// Room on the disk that is kept free.
#[derive(Clone, Copy)]
pub(super) struct Space {
    /// Produce is refused while there is less.
    reserve: u64,
    /// Bytes of the file that keeps room for recovery.
    file: u64,
}

impl Space {
    pub fn of(options: &Options) -> Space {
        let total = host::file_system_bytes(&options.data_dir).unwrap_or(u64::MAX);
        Space {
            reserve: RESERVE_BYTES.min(total / RESERVE_PART),
            file: block_ceil(RESERVE_FILE_BYTES.min(total / RESERVE_FILE_PART)),
        }
    }

    /// Before recovery, which needs room before it frees any.
    pub fn give_up_reserve(self, disk: &dyn Disk) {
        if disk.free_bytes().is_ok_and(|free| free < self.file) && disk.remove_file(RESERVE_FILE).is_ok() {
            tracing::warn!("the disk is full: the reserve of {} bytes is given up for recovery", self.file);
        }
    }

    /// Looks how much room there is, and says so when that changes.
    pub fn look(self, node: &Node) {
        let Ok(free) = node.disk.free_bytes() else { return };
        let low = free < self.reserve;
        if node.disk_low.swap(low, Ordering::Relaxed) != low {
            if low {
                tracing::error!(
                    "the disk has only {free} bytes left: produce is refused until there is room"
                );
            } else {
                tracing::info!("the disk has room again: produce is accepted");
            }
        }
        if free > self.reserve + 2 * self.file
            && let Err(error) = self.keep_reserve(&*node.disk)
        {
            tracing::warn!("the reserve for recovery cannot be kept: {error}");
        }
    }

    fn keep_reserve(self, disk: &dyn Disk) -> std::io::Result<()> {
        if disk.open(RESERVE_FILE, Open::Read).is_ok() {
            return Ok(());
        }
        disk.open(RESERVE_FILE, Open::Replace)?.allocate(0, self.file)
    }
}

/// Watches the room on the disk: below the reserve produce is refused, until there is room again.
pub(super) fn start_space_watch(
    node: &Arc<Node>,
    space: Space,
    stopping: &Arc<AtomicBool>,
) -> Result<JoinHandle<()>, String> {
    let (node, stopping) = (Arc::clone(node), Arc::clone(stopping));
    let run = move || {
        while !stopping.load(Ordering::Acquire) {
            space.look(&node);
            std::thread::sleep(SPACE_PERIOD);
        }
    };
    std::thread::Builder::new().name("space".into()).spawn(run).map_err(|e| e.to_string())
}
