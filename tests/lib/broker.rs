//! A broker of one's own: the real binary on free ports over a folder on the disk, ended with the value.

use crate::client::Client;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// Longest wait for anything that must come. A test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The binary: `RINGLOG_BIN`, else the debug build of the workspace, which is made once.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("RINGLOG_BIN") {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "RINGLOG_BIN={}: there is no such file", path.display());
            return path;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--package", "ringlog", "--bin", "ringlog"])
            .current_dir(root)
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the binary cannot be built");
        target_dir().join("debug/ringlog")
    })
}

/// The target folder: the test's own binary is `<target>/<profile>/deps/it-<hash>`.
fn target_dir() -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    test.ancestors().nth(3).expect("tests lie in <target>/<profile>/deps").to_owned()
}

/// A folder on the disk that holds the build, so that it is no file system in memory. It goes with the value.
pub fn folder() -> TempDir {
    let parent = target_dir().join("it-data");
    std::fs::create_dir_all(&parent).expect("the target folder can be written");
    tempfile::Builder::new().prefix("it-").tempdir_in(parent).expect("the target folder can be written")
}

/// `ringlog start` over a folder with free ports, to which a test adds what it needs.
pub struct Start {
    command: Command,
    data: PathBuf,
}

impl Start {
    /// Over this data folder, two shards.
    #[must_use]
    pub fn new(data: &Path) -> Start {
        Start::with_binary(binary(), data)
    }

    /// The same with another copy of the binary.
    #[must_use]
    pub fn with_binary(binary: &Path, data: &Path) -> Start {
        let mut command = Command::new(binary);
        command.arg("start").arg("--data-dir").arg(data);
        Start { command, data: data.to_owned() }
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Start {
        self.command.args(args);
        self
    }

    /// One setting.
    #[must_use]
    pub fn set(self, name: &str, value: impl std::fmt::Display) -> Start {
        self.args(&["--set", &format!("{name}={value}")])
    }

    /// Number of shards.
    #[must_use]
    pub fn shards(self, shards: usize) -> Start {
        self.args(&["--shards", &shards.to_string()])
    }

    /// The command, for limits and users.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    fn is_given(&self, option: &str) -> bool {
        self.command.get_args().any(|arg| arg == option)
    }

    fn complete(mut self) -> Start {
        if !self.is_given("--listen") {
            self = self.args(&["--listen", "127.0.0.1:0"]);
        }
        if !self.is_given("--http") {
            self = self.args(&["--http", "127.0.0.1:0"]);
        }
        if !self.is_given("--shards") {
            self = self.shards(2);
        }
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn ready(self) -> Broker {
        let (broker, line) = self.spawn();
        match line {
            Some(_) => broker,
            None => panic!("the broker did not start: {}", broker.stderr()),
        }
    }

    /// Starts what must not start: gives the exit code and stderr.
    ///
    /// # Panics
    /// When it gets ready.
    pub fn refused(self) -> (Option<i32>, String) {
        let (mut broker, line) = self.spawn();
        assert_eq!(line, None, "it started where it must not");
        let status = broker.wait();
        (status.code(), broker.stderr())
    }

    fn spawn(self) -> (Broker, Option<String>) {
        let Start { mut command, data } = self.complete();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let errors = Arc::new(Output::default());
        let reader = errors.follow(child.stderr.take().expect("stderr is piped"));
        let (tell, told) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|line| drop(tell.send(line)))
        });
        let ready = match told.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the broker neither started nor ended: {}", errors.text())
            }
        };
        let field = |name: &str| {
            let line = ready.as_deref()?;
            line.split_once(name)?.1.split([' ', ',']).next().map(str::to_owned)
        };
        let broker = Broker {
            address: field("ready: ").unwrap_or_default(),
            http: field(", http ").unwrap_or_default(),
            ready_line: ready.clone().unwrap_or_default(),
            data,
            child,
            ended: None,
            errors,
            reader: Some(reader),
        };
        (broker, ready)
    }
}

/// What a process wrote, with a way to wait for more.
#[derive(Default)]
struct Output {
    text: Mutex<(String, bool)>,
    more: Condvar,
}

impl Output {
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let output = Arc::clone(self);
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let mut text = output.text.lock().unwrap_or_else(PoisonError::into_inner);
                text.0.push_str(&String::from_utf8_lossy(&line));
                line.clear();
                output.more.notify_all();
            }
            output.text.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
            output.more.notify_all();
        })
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn wait(&self, found: impl Fn(&str) -> bool) -> bool {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.more.wait_timeout_while(text, PATIENCE, |(text, over)| !found(text) && !*over);
        let (text, _) = waited.unwrap_or_else(PoisonError::into_inner);
        found(&text.0)
    }
}

/// A running broker, killed when the value goes.
pub struct Broker {
    /// Where clients connect.
    pub address: String,
    /// Where `/metrics` and `/health` are; `off` for nowhere.
    pub http: String,
    /// The line that said that it is ready.
    pub ready_line: String,
    /// Its data folder.
    pub data: PathBuf,
    child: Child,
    ended: Option<ExitStatus>,
    errors: Arc<Output>,
    reader: Option<JoinHandle<()>>,
}

impl Broker {
    /// A client of it.
    pub fn client(&self) -> Client {
        Client::connect(&self.address)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.errors.text()
    }

    /// Waits until stderr holds this many lines with `what`.
    ///
    /// # Panics
    /// When they do not come.
    pub fn wait_stderr(&self, what: &str, times: usize) {
        let found = self.errors.wait(|text| text.lines().filter(|line| line.contains(what)).count() >= times);
        assert!(found, "{times} lines with {what:?} were due on stderr: {}", self.stderr());
    }

    /// kill -9.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        self.wait();
    }

    /// Sends a signal, by its name.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} failed");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When the system does not know the process.
    pub fn wait(&mut self) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let status = self.child.wait().expect("the process is ours");
        self.ended = Some(status);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status
    }

    /// SIGTERM, and a clean end.
    ///
    /// # Panics
    /// When it does not end, or not with 0.
    pub fn stop(mut self) {
        self.signal("TERM");
        let deadline = ringlog::clock::monotonic_ms() + PATIENCE.as_secs() * 1000;
        while self.child.try_wait().is_ok_and(|status| status.is_none()) {
            assert!(ringlog::clock::monotonic_ms() < deadline, "it does not stop: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "a stop is clean: {}", self.stderr());
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most memory that was ever resident, in bytes.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn resident_bytes_max(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(name)).expect("the kernel says it");
        let kib = line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
        kib.expect("a number of KiB") * 1024
    }

    /// The answer to an HTTP GET: status and body.
    ///
    /// # Panics
    /// When there is no HTTP server.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.http).expect("the HTTP server takes connections");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let status = answer.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a status line");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    /// The sum of a metric over all its labels.
    ///
    /// # Panics
    /// When it is not there.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let is_it = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        };
        let values: Vec<f64> =
            text.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        assert!(!values.is_empty(), "no metric {name} in {text}");
        values.iter().sum()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        self.wait();
        if !std::thread::panicking() {
            let errors = self.stderr();
            assert!(!errors.contains("panicked at"), "the broker panicked: {errors}");
        } else {
            eprintln!("--- stderr of the broker\n{}", self.stderr());
        }
    }
}
