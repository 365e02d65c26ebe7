//! A disk in memory that forgets at a crash what a real one may forget.
//!
//! Every file and every folder has two states: what a reader sees now, and what is durable. A file's writes since
//! its last sync survive a crash in any subset of their 512-byte pieces, and its length is any that it had since;
//! a folder's changes since its last sync survive one by one, in any subset, a rename as a whole. Commits of the
//! WAL (direct, data-synced writes) are in flight between their submission and their completion: until then any
//! subset of their pieces may be on the disk, from then on all are.
//!
//! A crash may come at the n-th operation: from there on every operation fails until [`SimDisk::power_on`].

use crate::inode::{Dir, File, Node};
use crate::rng::Rng;
use crate::trace::Trace;
use ringlog_storage::disk::{self, Entry, Open, Shared};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What of the unsynced survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// Power was lost: each piece with this chance in a hundred.
    Percent(u64),
    /// Only the process died: all that was written, some of what was in flight.
    Written,
}

/// A bytes-in-place write to a segment's file, for the driver's own check of the write-ahead rule.
pub struct SegmentWrite {
    pub path: String,
    pub position: u64,
    pub bytes: Vec<u8>,
}

/// A change of folders that is not durable yet.
enum Change {
    Add { dir: usize, name: String, node: usize },
    Remove { dir: usize, name: String },
    Move { from: (usize, String), to: (usize, String), node: usize },
}

impl Change {
    fn touches(&self, dir: usize) -> bool {
        match self {
            Change::Add { dir: d, .. } | Change::Remove { dir: d, .. } => *d == dir,
            Change::Move { from, to, .. } => from.0 == dir || to.0 == dir,
        }
    }
}

struct InFlight {
    node: usize,
    position: u64,
    bytes: Vec<u8>,
}

struct State {
    rng: Rng,
    nodes: Vec<Node>,
    changes: Vec<Change>,
    in_flight: BTreeMap<u64, InFlight>,
    next_flight: u64,
    crash_in: Option<u64>,
    crashed: bool,
    full: bool,
    operations: u64,
    segment_writes: Vec<SegmentWrite>,
    trace: Trace,
}

/// See the module's documentation.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

const ROOT: usize = 0;

fn not_found(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{path}: not found"))
}

fn no_room() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "simulated full disk")
}

impl State {
    fn dir(&mut self, node: usize) -> &mut Dir {
        self.nodes[node].dir().expect("a folder")
    }

    fn file(&mut self, node: usize) -> &mut File {
        self.nodes[node].file().expect("a file")
    }

    fn find(&mut self, path: &str) -> io::Result<usize> {
        let mut at = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let dir = self.nodes[at].dir().ok_or_else(|| not_found(path))?;
            at = *dir.now.get(name).ok_or_else(|| not_found(path))?;
        }
        Ok(at)
    }

    fn find_parent(&mut self, path: &str) -> io::Result<(usize, String)> {
        let dir = self.find(disk::parent(path))?;
        self.nodes[dir].dir().ok_or_else(|| not_found(path))?;
        let name = path.rsplit('/').next().expect("split gives at least one part");
        Ok((dir, name.to_owned()))
    }

    fn add(&mut self, dir: usize, name: &str, node: Node) -> usize {
        let at = self.nodes.len();
        self.nodes.push(node);
        self.dir(dir).now.insert(name.to_owned(), at);
        self.changes.push(Change::Add { dir, name: name.to_owned(), node: at });
        at
    }

    /// Counts an operation that changes something; the one that the crash was set to does not happen.
    fn change(&mut self, what: &str, path: &str, detail: u64) -> io::Result<()> {
        self.look()?;
        self.operations += 1;
        self.trace.note(what, path, detail);
        match &mut self.crash_in {
            Some(0) => {
                self.crashed = true;
                self.look()
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn look(&self) -> io::Result<()> {
        if self.crashed { Err(io::Error::other("simulated crash")) } else { Ok(()) }
    }

    /// Whether an operation that takes room fails now.
    fn needs_room(&mut self, percent: u64) -> io::Result<()> {
        if self.full && self.rng.percent(percent) {
            return Err(no_room());
        }
        Ok(())
    }

    /// Makes a change durable, and with it that older changes of the same names no longer matter.
    fn commit(&mut self, change: &Change) {
        match change {
            Change::Add { dir, name, node } => {
                let (dir, node) = (*dir, *node);
                self.dir(dir).durable.insert(name.clone(), node);
            }
            Change::Remove { dir, name } => {
                let dir = *dir;
                self.dir(dir).durable.remove(name);
            }
            Change::Move { from, to, node } => {
                let durable = &mut self.dir(from.0).durable;
                if durable.get(&from.1) == Some(node) {
                    durable.remove(&from.1);
                }
                let (to, node) = (to.clone(), *node);
                self.dir(to.0).durable.insert(to.1, node);
            }
        }
    }

    fn sync_dir(&mut self, dir: usize) {
        for change in std::mem::take(&mut self.changes) {
            if change.touches(dir) { self.commit(&change) } else { self.changes.push(change) }
        }
    }

    fn crash(&mut self, survives: Survives) {
        for flight in std::mem::take(&mut self.in_flight).into_values() {
            let percent = match survives {
                Survives::Percent(percent) => percent,
                Survives::Written => 50,
            };
            let mut rng = self.rng.fork();
            self.file(flight.node).land(flight.position, &flight.bytes, || rng.percent(percent));
        }
        for change in std::mem::take(&mut self.changes) {
            let kept = match survives {
                Survives::Percent(percent) => self.rng.percent(percent),
                Survives::Written => true,
            };
            if kept {
                self.commit(&change);
            }
        }
        let mut rng = self.rng.fork();
        for node in &mut self.nodes {
            match node {
                Node::Dir(dir) => dir.now = dir.durable.clone(),
                Node::File(file) => {
                    file.is_shared = false;
                    match survives {
                        Survives::Percent(percent) => file.crash(&mut rng, percent),
                        Survives::Written => file.sync(),
                    }
                }
            }
        }
        self.forget_unreachable();
    }

    /// Gives back the memory of files that no folder names.
    fn forget_unreachable(&mut self) {
        let mut reached = vec![false; self.nodes.len()];
        let mut todo = vec![ROOT];
        while let Some(at) = todo.pop() {
            reached[at] = true;
            if let Some(dir) = self.nodes[at].dir() {
                todo.extend(dir.now.values().copied());
            }
        }
        for (node, reached) in self.nodes.iter_mut().zip(reached) {
            if !reached {
                *node = Node::File(File::default());
            }
        }
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new(rng: Rng) -> SimDisk {
        let state = State {
            rng,
            nodes: vec![Node::Dir(Dir::default())],
            changes: Vec::new(),
            in_flight: BTreeMap::new(),
            next_flight: 0,
            crash_in: None,
            crashed: false,
            full: false,
            operations: 0,
            segment_writes: Vec::new(),
            trace: Trace::default(),
        };
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The crash comes at the n-th operation from now on; `None` for none.
    pub fn crash_in(&self, operations: Option<u64>) {
        self.state().crash_in = operations;
    }

    /// Whether the crash has come.
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// Loses what a crash loses, and works again.
    pub fn power_on(&self, survives: Survives) {
        let mut state = self.state();
        state.trace.note("crash", "", 0);
        state.crash(survives);
        (state.crashed, state.crash_in, state.full) = (false, None, false);
    }

    /// Whether there is no room.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// Hash of everything that was ever done.
    pub fn trace(&self) -> u64 {
        self.state().trace.value()
    }

    /// The writes to segments since the last call.
    pub fn take_segment_writes(&self) -> Vec<SegmentWrite> {
        std::mem::take(&mut self.state().segment_writes)
    }

    /// Submits a direct, data-synced write. Gives the number to complete it by.
    pub fn submit(&self, path: &str, position: u64, bytes: &[u8]) -> io::Result<u64> {
        let mut state = self.state();
        state.change("submit", path, position ^ (bytes.len() as u64) << 32 ^ Trace::of(bytes))?;
        let node = state.find(path)?;
        let end = position + bytes.len() as u64;
        assert!(end <= state.file(node).now.len() as u64, "a commit lies within its prepared file");
        for other in state.in_flight.values().filter(|other| other.node == node) {
            let apart = other.position + other.bytes.len() as u64 <= position || other.position >= end;
            assert!(apart, "commits in flight do not overlap");
        }
        let id = state.next_flight;
        state.next_flight += 1;
        state.in_flight.insert(id, InFlight { node, position, bytes: bytes.to_vec() });
        Ok(id)
    }

    /// A submitted write is on the disk.
    pub fn complete(&self, id: u64) -> io::Result<()> {
        let mut state = self.state();
        state.change("complete", "", id)?;
        let flight = state.in_flight.remove(&id).expect("a write in flight");
        state.file(flight.node).land(flight.position, &flight.bytes, || true);
        Ok(())
    }

    /// Flips a bit of a file.
    pub fn flip(&self, path: &str, byte: u64, bit: u8) {
        let mut state = self.state();
        let node = state.find(path).expect("the file to damage");
        let file = state.file(node);
        file.now[byte as usize] ^= 1 << bit;
        if let Some(durable) = file.durable.get_mut(byte as usize) {
            *durable ^= 1 << bit;
        }
    }

    /// The bytes of a file as a reader sees them; `None` where there is none.
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        let mut state = self.state();
        let node = state.find(path).ok()?;
        Some(state.file(node).now.clone())
    }

    /// Bytes of all files below a folder.
    pub fn bytes_below(&self, dir: &str) -> u64 {
        let mut state = self.state();
        let Ok(dir) = state.find(dir) else { return 0 };
        let mut todo = vec![dir];
        let mut bytes = 0;
        while let Some(at) = todo.pop() {
            match &state.nodes[at] {
                Node::Dir(dir) => todo.extend(dir.now.values().copied()),
                Node::File(file) => bytes += file.now.len() as u64,
            }
        }
        bytes
    }

    /// Every file below a folder, by path.
    pub fn files(&self, dir: &str) -> Vec<String> {
        let mut found = Vec::new();
        let Ok(entries) = disk::Disk::list(self, dir) else { return found };
        for entry in entries {
            let path = format!("{dir}/{}", entry.name);
            if entry.is_dir { found.extend(self.files(&path)) } else { found.push(path) }
        }
        found
    }
}

impl disk::Disk for SimDisk {
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn disk::File>> {
        let mut state = self.state();
        state.look()?;
        let node = match (state.find(path), how) {
            (Ok(node), _) => node,
            (Err(e), Open::Read | Open::ReadDirect) => return Err(e),
            (Err(_), Open::Direct | Open::Replace) => {
                let (dir, name) = state.find_parent(path)?;
                state.change("create", path, 0)?;
                state.needs_room(30)?;
                state.add(dir, &name, Node::File(File::default()))
            }
        };
        if how == Open::Replace && !state.file(node).now.is_empty() {
            state.change("empty", path, 0)?;
            state.file(node).set_len(0);
        }
        let direct = matches!(how, Open::Direct | Open::ReadDirect);
        Ok(Arc::new(Handle { disk: self.clone(), node, path: path.to_owned(), direct }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        let mut state = self.state();
        state.look()?;
        let at = state.find(dir)?;
        let names: Vec<_> = state.dir(at).now.iter().map(|(name, node)| (name.clone(), *node)).collect();
        let is_dir = |node: usize, state: &mut State| state.nodes[node].dir().is_some();
        Ok(names.into_iter().map(|(name, n)| Entry { name, is_dir: is_dir(n, &mut state) }).collect())
    }

    fn make_dirs(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.look()?;
        let mut at = ROOT;
        for name in dir.split('/').filter(|name| !name.is_empty()) {
            at = match state.dir(at).now.get(name) {
                Some(next) => *next,
                None => {
                    state.change("make dir", name, at as u64)?;
                    state.needs_room(30)?;
                    state.add(at, name, Node::Dir(Dir::default()))
                }
            };
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.look()?;
        let at = state.find(dir)?;
        state.change("sync dir", dir, 0)?;
        state.sync_dir(at);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.look()?;
        let node = state.find(from)?;
        let (from_dir, from_name) = state.find_parent(from)?;
        let (to_dir, to_name) = state.find_parent(to)?;
        state.change("rename", to, 0)?;
        state.dir(from_dir).now.remove(&from_name);
        state.dir(to_dir).now.insert(to_name.clone(), node);
        state.changes.push(Change::Move { from: (from_dir, from_name), to: (to_dir, to_name), node });
        Ok(())
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        state.look()?;
        let node = state.find(path)?;
        assert!(state.nodes[node].file().is_some(), "{path} is a file");
        let (dir, name) = state.find_parent(path)?;
        state.change("remove", path, 0)?;
        state.dir(dir).now.remove(&name);
        state.changes.push(Change::Remove { dir, name });
        Ok(())
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.look()?;
        let node = state.find(dir)?;
        if !state.dir(node).now.is_empty() {
            return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, format!("{dir} is not empty")));
        }
        let (above, name) = state.find_parent(dir)?;
        state.change("remove dir", dir, 0)?;
        state.dir(above).now.remove(&name);
        state.changes.push(Change::Remove { dir: above, name });
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        state.look()?;
        Ok(if state.full { 0 } else { 1 << 40 })
    }
}

/// An open file. It stays usable when its name is removed.
struct Handle {
    disk: SimDisk,
    node: usize,
    path: String,
    direct: bool,
}

impl Handle {
    fn check_alignment(&self, position: u64, bytes: &[u8]) {
        if self.direct {
            assert_eq!(position % disk::BLOCK as u64, 0, "direct I/O at an unaligned position");
            assert_eq!(bytes.len() % disk::BLOCK, 0, "direct I/O of an unaligned length");
            assert_eq!(bytes.as_ptr() as usize % disk::BLOCK, 0, "direct I/O on unaligned memory");
        }
    }
}

impl disk::File for Handle {
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.check_alignment(position, buffer);
        let mut state = self.disk.state();
        state.look()?;
        let now = &state.file(self.node).now;
        let from = (position as usize).min(now.len());
        let len = buffer.len().min(now.len() - from);
        buffer[..len].copy_from_slice(&now[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_alignment(position, bytes);
        let mut state = self.disk.state();
        let detail = position ^ (bytes.len() as u64) << 32 ^ Trace::of(bytes);
        state.change("write", &self.path, detail)?;
        if self.path.starts_with("topics/") && self.path.ends_with(".log") {
            let (path, bytes) = (self.path.clone(), bytes.to_vec());
            state.segment_writes.push(SegmentWrite { path, position, bytes });
        }
        let end = position + bytes.len() as u64;
        if end > state.file(self.node).allocated
            && let Err(full) = state.needs_room(50)
        {
            let part = state.rng.index(bytes.len() + 1) / 512 * 512;
            state.file(self.node).write(position, &bytes[..part]);
            return Err(full);
        }
        state.file(self.node).write(position, bytes);
        Ok(())
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        assert!(from < to, "an allocation is not empty");
        let mut state = self.disk.state();
        state.change("allocate", &self.path, to)?;
        state.needs_room(70)?;
        let file = state.file(self.node);
        file.allocated = file.allocated.max(to);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change("set length", &self.path, len)?;
        state.file(self.node).set_len(len as usize);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.look()?;
        Ok(state.file(self.node).now.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change("sync", &self.path, 0)?;
        state.file(self.node).sync();
        Ok(())
    }

    fn share(&self, len: u64) -> io::Result<Shared> {
        let mut state = self.disk.state();
        state.look()?;
        let file = state.file(self.node);
        assert!(len <= file.now.len() as u64, "{}: mapped beyond its end", self.path);
        file.is_shared = true;
        Ok(Arc::new(file.now[..len as usize].to_vec()))
    }

    fn make_resident(&self, shared: &Shared, from: u64, to: u64) -> io::Result<()> {
        self.disk.state().look()?;
        assert!(from <= to && to <= shared.as_ref().as_ref().len() as u64, "within the mapping");
        Ok(())
    }
}
