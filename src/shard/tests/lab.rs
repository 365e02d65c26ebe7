//! A broker in the test's own process, perturbed, with a way to look into its shards.

use crate::broker::{Broker, Options};
use crate::clock::monotonic_ms;
use crate::machine::budget::Class;
use crate::machine::config::Settings;
use crate::node::Node;
use crate::shard::perturb::{Perturbation, Source};
use crate::shard::{Message, Shard};
use ringlog_tests::broker::{PATIENCE, folder};
use ringlog_tests::client::Client;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tempfile::TempDir;

/// How long a broker may take to stop when its test has failed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// See the module's documentation. Stops with the value, and then must have given all memory back.
pub struct Lab {
    broker: Option<Broker>,
    /// What it is perturbed by.
    pub perturbation: Arc<Perturbation>,
    folder: Option<TempDir>,
}

impl Lab {
    /// Over a folder of its own.
    pub fn start(shards: usize, settings: &[(&str, &str)], perturbation: Perturbation) -> Lab {
        let folder = folder();
        let mut lab = Lab::over(folder.path(), shards, settings, perturbation);
        lab.folder = Some(folder);
        lab
    }

    /// Over this folder.
    pub fn over(data: &Path, shards: usize, settings: &[(&str, &str)], perturbation: Perturbation) -> Lab {
        log();
        let perturbation = Arc::new(perturbation);
        Source::install(&perturbation);
        let mut all = Settings::new();
        all.insert("offsets.topic.num.partitions".to_owned(), "5".to_owned());
        all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let options = Options {
            data_dir: PathBuf::from(data),
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            http: None,
            node_id: 0,
            rack: None,
            shards: Some(shards),
            cores: None,
            control_core: None,
            settings: all,
        };
        let broker = Broker::start(options).expect("the broker starts");
        Lab { broker: Some(broker), perturbation, folder: None }
    }

    /// What the broker's threads share.
    pub fn node(&self) -> &Arc<Node> {
        self.broker.as_ref().expect("it runs until it is dropped").parts().0
    }

    /// A client. They are dealt out over the shards in turn.
    pub fn client(&self) -> Client {
        let address = self.broker.as_ref().expect("it runs until it is dropped").parts().1;
        Client::connect(&address.to_string())
    }

    /// Looks at something, or does something, on a shard's thread.
    pub fn on<T: Send + 'static>(
        &self,
        shard: usize,
        work: impl FnOnce(&Rc<Shard>) -> T + Send + 'static,
    ) -> T {
        let (tell, told) = mpsc::channel();
        let work = move |shard: &Rc<Shard>| drop(tell.send(work(shard)));
        self.node().mailboxes[shard].send(Message::Run(Box::new(work)));
        told.recv_timeout(PATIENCE).expect("the shard answers")
    }

    /// The same on every shard.
    pub fn on_all<T: Send + 'static>(
        &self,
        work: impl Fn(&Rc<Shard>) -> T + Send + Clone + 'static,
    ) -> Vec<T> {
        (0..self.node().shards).map(|shard| self.on(shard, work.clone())).collect()
    }

    /// Bytes of a class held on all shards together.
    pub fn used(&self, class: Class) -> usize {
        self.on_all(move |shard| shard.budget.borrow().used(class)).into_iter().sum()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let (broker, folder) = (self.broker.take().expect("it is dropped once"), self.folder.take());
        self.perturbation.open_gates();
        if !std::thread::panicking() {
            return broker.stop();
        }
        // What failed may keep it from stopping: then it is left alone, with its folder, for it would end the process
        // when that went.
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            broker.stop();
            let _ = tell.send(());
        });
        if told.recv_timeout(STOP_PATIENCE).is_err() {
            std::mem::forget(folder);
        }
    }
}

/// The brokers' log, where `RINGLOG_LOG` asks for it (`RINGLOG_LOG=info`).
fn log() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("RINGLOG_LOG") {
        // Another test may have done so before.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
}

/// Waits until something is so.
pub fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = monotonic_ms() + u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
    while !is_so() {
        assert!(monotonic_ms() < deadline, "this does not come: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What tests look at.
impl Shard {
    /// Requests that wait for their turn, on all connections.
    pub fn waiting_requests(&self) -> usize {
        self.connections.borrow().values().map(|conn| conn.waiting.borrow().len()).sum()
    }

    /// Watchers of all partitions.
    pub fn watchers(&self) -> usize {
        self.partitions.borrow().all().iter().map(|partition| partition.watchers.borrow().len()).sum()
    }
}
