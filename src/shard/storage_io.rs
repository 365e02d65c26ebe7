//! Carries the store's I/O: commits go to the WAL's files by io_uring, jobs to the blocking pool.

use crate::shard::Shard;
use crate::shard::perturb::{Step, pause};
use glommio::io::{DmaBuffer, DmaFile, OpenOptions};
use hashbrown::HashMap;
use ringlog_storage::job;
use ringlog_storage::wal::writer::{CommitBuffer, Submission};
use std::rc::Rc;

/// A commit's memory: glommio's, so that the kernel may know it already.
pub struct DmaCommit(DmaBuffer);

impl CommitBuffer for DmaCommit {
    fn with_capacity(bytes: usize) -> DmaCommit {
        DmaCommit(glommio::allocate_dma_buffer(bytes))
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }

    fn cut(&mut self, bytes: usize) {
        self.0.trim_to_size(bytes);
    }
}

/// Open WAL files by number. A file keeps its handle through all its uses, until it is removed.
#[derive(Default)]
pub struct WalFiles {
    open: HashMap<u32, Rc<DmaFile>, foldhash::fast::RandomState>,
}

impl Shard {
    /// Moves the store's outputs on: commits, jobs, events. Called whenever something went in.
    pub fn pump(self: &Rc<Self>) {
        self.pulse.beat();
        self.move_on();
    }

    /// As [`pump`](Self::pump), but says nothing to the watchdog: looking whether there is work is none.
    pub(super) fn move_on(self: &Rc<Self>) {
        loop {
            self.carry_io();
            // Those who were told may have appended more.
            if !self.deliver_events() {
                break;
            }
        }
        self.note_durable();
    }

    /// Starts what the store wants to be done.
    fn carry_io(self: &Rc<Self>) {
        loop {
            let Some((submission, path)) = self.store.borrow_mut().next_commit() else { break };
            self.counters.wal_commits.increment();
            let shard = Rc::clone(self);
            glommio::spawn_local(async move { shard.write_commit(submission, path).await }).detach();
        }
        loop {
            let Some((id, work)) = self.store.borrow_mut().next_job() else { break };
            let shard = Rc::clone(self);
            let (disk, files) = (self.node.disk.clone(), self.node.files.clone());
            let segments = self.node.segments.clone();
            glommio::spawn_local(async move {
                let name = work.name();
                if let Some(file) = work.removes_wal() {
                    shard.close_wal_file(file).await;
                }
                pause(Step::Job).await;
                let run = glommio::executor().spawn_blocking(move || {
                    let ((removed, folder), cut) = (work.removes(), work.cuts());
                    let output = job::run(&*disk, &files, work);
                    removed.iter().for_each(|path| segments.forget(path));
                    folder.iter().for_each(|dir| segments.forget_below(dir));
                    cut.iter().for_each(|(dir, cuts)| segments.cut(dir, *cuts));
                    output
                });
                let outcome = run.await;
                pause(Step::Job).await;
                match outcome {
                    Ok(output) => {
                        if let job::Output::Damaged(what) = &output {
                            tracing::error!("{name}: {what}");
                        }
                        shard.store.borrow_mut().job_done(id, output);
                        shard.pump();
                    }
                    Err(error) => shard.node.fatal(&format!("{name} failed: {error}")),
                }
            })
            .detach();
        }
    }

    /// Tells those who wait for the log itself.
    fn note_durable(&self) {
        let store = self.store.borrow();
        let durable = store.wal().durable();
        if !store.wal().is_idle() || store.wal().has_unstated() || store.is_checkpointing() {
            self.note_activity();
        }
        drop(store);
        if self.durable_seen.replace(durable) != durable {
            for signal in self.durability.take() {
                signal.set();
            }
        }
    }

    async fn write_commit(self: Rc<Self>, submission: Submission<DmaCommit>, path: String) {
        let Submission { commit, file, position, buffer } = submission;
        let handle = match self.wal_file(file, &path).await {
            Ok(handle) => handle,
            Err(error) => return self.node.fatal(&format!("opening {path} failed: {error}")),
        };
        let len = buffer.0.len();
        self.counters.wal_bytes.add(len as u64);
        pause(Step::Commit).await;
        match handle.write_at(buffer.0, position).await {
            Ok(written) if written == len => {
                self.store.borrow_mut().commit_written(commit);
                self.pump();
            }
            Ok(written) => {
                self.node.fatal(&format!("{path}: {written} bytes of a commit of {len} were written"));
            }
            Err(error) => self.node.fatal(&format!("writing {path} failed: {error}")),
        }
    }

    /// Lets go of a WAL file that is to be removed, so that its space is free and a later file of its number is
    /// opened anew. Nothing is being written to it.
    async fn close_wal_file(&self, file: u32) {
        let handle = self.wal_files.borrow_mut().open.remove(&file);
        if let Some(handle) = handle
            && let Err(error) = handle.close_rc().await
        {
            tracing::warn!("closing WAL file {file}: {error}");
        }
    }

    async fn wal_file(&self, file: u32, path: &str) -> Result<Rc<DmaFile>, String> {
        if let Some(handle) = self.wal_files.borrow().open.get(&file) {
            return Ok(Rc::clone(handle));
        }
        // One command where the device can force unit access: a commit needs no sync of its own.
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DSYNC);
        let path = self.node.data_dir.join(path);
        let opened = options.dma_open(&path).await.map_err(|e| e.to_string())?;
        let handle =
            Rc::clone(self.wal_files.borrow_mut().open.entry(file).or_insert_with(|| Rc::new(opened)));
        Ok(handle)
    }
}
