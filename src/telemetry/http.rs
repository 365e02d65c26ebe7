//! The HTTP server for `/metrics`, `/health/live` and `/health/ready`.
//!
//! It runs on a few plain threads of its own and answers from a [`Source`], so that a slow scraper never meets a
//! shard, and a shard that hangs is still seen from outside. hyper speaks HTTP; it is driven over a blocking
//! socket by `drive`. A connection carries one request and ends after [`CONNECTION_MS_MAX`] whatever it does,
//! so a client that says nothing holds up a quarter of the server for that long at most.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use crate::clock;
use crate::telemetry::metrics;

/// Threads, and so connections at a time; more wait in the listener's backlog.
const THREADS: usize = 4;
/// How long a connection may take, from accept to the last byte of the answer.
pub const CONNECTION_MS_MAX: u64 = 5_000;
/// Largest head of a request; a larger one is answered 431.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Most header lines of a request; more are answered 431.
const HEADERS_MAX: usize = 64;
/// How long accepting pauses after an error (no file descriptors, mostly), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the server tells. Called on its threads, at any time.
pub trait Source: Send + Sync {
    /// The text of `/metrics`, as [`metrics::CONTENT_TYPE`].
    fn metrics(&self) -> String;
    /// Whether clients can be served now.
    ///
    /// # Errors
    /// What is missing, in one line.
    fn ready(&self) -> Result<(), String>;
    /// Whether the process does what it should. An orchestrator restarts it if not.
    ///
    /// # Errors
    /// What is wrong, in one line.
    fn live(&self) -> Result<(), String>;
}

/// A running server; [`HttpServer::stop`] ends it.
pub struct HttpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    source: Arc<dyn Source>,
    stopping: AtomicBool,
    /// The connection that each thread serves, so that stopping can cut it.
    serving: Mutex<[Option<TcpStream>; THREADS]>,
}

impl Shared {
    fn serving(&self) -> MutexGuard<'_, [Option<TcpStream>; THREADS]> {
        // Each slot is whole at any time, whatever panicked while the lock was held.
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves `listener` on threads of its own.
///
/// # Errors
/// If a thread cannot be started or the listener has no address.
pub fn serve(listener: TcpListener, source: Arc<dyn Source>) -> io::Result<HttpServer> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(false)?;
    let listener = Arc::new(listener);
    let shared = Arc::new(Shared { source, stopping: AtomicBool::new(false), serving: Mutex::default() });
    let mut server = HttpServer { address, shared, threads: Vec::with_capacity(THREADS) };
    for slot in 0..THREADS {
        let (listener, shared) = (Arc::clone(&listener), Arc::clone(&server.shared));
        let thread = std::thread::Builder::new().name(format!("http-{slot}"));
        match thread.spawn(move || accept(&listener, &shared, slot)) {
            Ok(handle) => server.threads.push(handle),
            Err(error) => {
                server.stop();
                return Err(error);
            }
        }
    }
    Ok(server)
}

impl HttpServer {
    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the connections there are, stops listening and waits for its threads.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let mut wake = self.address;
        match wake {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => wake.set_ip(Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => wake.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        for thread in self.threads {
            while !thread.is_finished() {
                for stream in self.shared.serving().iter().flatten() {
                    // An error means that the peer was faster.
                    let _ = stream.shutdown(Shutdown::Both);
                }
                // A thread in accept() wakes for a connection only. Any thread may get it, so it is repeated.
                let _ = TcpStream::connect_timeout(&wake, ACCEPT_PAUSE);
                std::thread::yield_now();
            }
            thread.join().expect("the HTTP threads do not panic");
        }
    }
}

fn accept(listener: &TcpListener, shared: &Shared, slot: usize) {
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "http accept failed");
                std::thread::sleep(ACCEPT_PAUSE);
                continue;
            }
        };
        let Ok(cut) = stream.try_clone() else { continue };
        shared.serving()[slot] = Some(cut);
        // Stopping either sees the stream in its slot or is seen here.
        if !shared.stopping.load(Ordering::SeqCst)
            && let Err(error) = connection(stream, shared.source.as_ref())
        {
            tracing::debug!(%error, "http connection ended early");
        }
        shared.serving()[slot] = None;
    }
}

fn connection(stream: TcpStream, source: &dyn Source) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_nodelay(true)?;
    let socket = Arc::new(Socket {
        stream,
        deadline_ms: clock::monotonic_ms() + CONNECTION_MS_MAX,
        readable: AtomicBool::new(false),
        wants_read: AtomicBool::new(false),
    });
    let service = service_fn(|request| {
        let response = answer(&request, source);
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(Io(Arc::clone(&socket)), service);
    drive(connection, &socket)??;
    Ok(())
}

fn answer<B>(request: &Request<B>, source: &dyn Source) -> Response<Full<Bytes>> {
    let health = |state: Result<(), String>| match state {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    };
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/health/live" | "/health/ready") {
        return text(
            StatusCode::NOT_FOUND,
            "not found: try /metrics, /health/live, /health/ready\n".to_owned(),
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/health/live" => health(source.live()),
        "/health/ready" => health(source.ready()),
        _ => {
            let mut response = text(StatusCode::OK, source.metrics());
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
            response
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A blocking socket with a deadline, shared by hyper, which reads and writes it, and [`drive`], which waits.
struct Socket {
    stream: TcpStream,
    deadline_ms: u64,
    /// Set by [`drive`] when a read will not block.
    readable: AtomicBool,
    /// Set by the adapter when hyper wants to read and nothing is known to be there.
    wants_read: AtomicBool,
}

impl Socket {
    fn left(&self) -> io::Result<Duration> {
        match self.deadline_ms.saturating_sub(clock::monotonic_ms()) {
            0 => Err(io::Error::new(io::ErrorKind::TimedOut, "the connection took too long")),
            ms => Ok(Duration::from_millis(ms)),
        }
    }

    fn wait_readable(&self) -> io::Result<()> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        retry(|| self.stream.peek(&mut [0])).map(|_| ())
    }
}

/// Repeats what a signal interrupted.
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a connection to its end on this thread: between two polls it blocks until the socket can be read.
/// Writes block where they are made, and the service never waits, so there is nothing else to wait for.
fn drive<F: Future>(future: F, socket: &Socket) -> io::Result<F::Output> {
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(output);
        }
        if woken.0.swap(false, Ordering::Relaxed) {
            socket.left()?;
        } else if socket.wants_read.swap(false, Ordering::Relaxed) {
            socket.wait_readable()?;
            socket.readable.store(true, Ordering::Relaxed);
        } else {
            return Err(io::Error::other("the connection waits for nothing"));
        }
    }
}

/// The socket as hyper wants it.
struct Io(Arc<Socket>);

impl Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.0.readable.swap(false, Ordering::Relaxed) {
            self.0.wants_read.store(true, Ordering::Relaxed);
            return Poll::Pending;
        }
        let mut bytes = [0; 2048];
        let room = buffer.remaining().min(bytes.len());
        let read = retry(|| io::Read::read(&mut &self.0.stream, &mut bytes[..room]))?;
        buffer.put_slice(&bytes[..read]);
        Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.stream.set_write_timeout(Some(self.0.left()?))?;
        Poll::Ready(retry(|| io::Write::write(&mut &self.0.stream, bytes)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.stream.shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    struct Fixed {
        ready: Result<(), String>,
        metrics: String,
    }

    impl Source for Fixed {
        fn metrics(&self) -> String {
            self.metrics.clone()
        }

        fn ready(&self) -> Result<(), String> {
            self.ready.clone()
        }

        fn live(&self) -> Result<(), String> {
            Ok(())
        }
    }

    fn start(source: Fixed) -> HttpServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        serve(listener, Arc::new(source)).unwrap()
    }

    fn server() -> HttpServer {
        start(Fixed { ready: Err("3 partitions recover".into()), metrics: "x_total 1\n# EOF\n".into() })
    }

    /// Status line, head and body of the answer to raw bytes. A reset after the answer counts as its end.
    fn ask(server: &HttpServer, raw: &[u8]) -> (String, String, String) {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(raw).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.lines().next().unwrap_or_default().to_owned();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    fn get(server: &HttpServer, path: &str) -> (String, String, String) {
        ask(server, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }

    #[test]
    fn tells_metrics_and_health() {
        let server = server();
        let (status, head, body) = get(&server, "/metrics?x=1");
        assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "x_total 1\n# EOF\n"));
        assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
        let (status, _, body) = get(&server, "/health/live");
        assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "ok\n"));
        let (status, _, body) = get(&server, "/health/ready");
        assert_eq!(
            (status.as_str(), body.as_str()),
            ("HTTP/1.1 503 Service Unavailable", "3 partitions recover\n")
        );
        server.stop();
    }

    #[test]
    fn head_has_the_length_and_no_body() {
        let server = server();
        let (status, head, body) = ask(&server, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", ""));
        assert!(head.contains("content-length: 16"), "{head}");
        server.stop();
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        let server = server();
        assert_eq!(get(&server, "/").0, "HTTP/1.1 404 Not Found");
        let posted = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
        let (status, head, _) = ask(&server, posted);
        assert_eq!(status, "HTTP/1.1 405 Method Not Allowed");
        assert!(head.contains("allow: get, head"), "{head}");
        server.stop();
    }

    #[test]
    fn bad_and_oversized_requests_are_answered_and_closed() {
        let server = server();
        assert_eq!(ask(&server, b"\x16\x03\x01 this is TLS\r\n\r\n").0, "HTTP/1.1 400 Bad Request");
        let mut many = b"GET /metrics HTTP/1.1\r\n".to_vec();
        (0..HEADERS_MAX + 1).for_each(|n| many.extend(format!("x{n}: y\r\n").bytes()));
        many.extend(b"\r\n");
        assert_eq!(ask(&server, &many).0, "HTTP/1.1 431 Request Header Fields Too Large");
        let mut long = b"GET /metrics HTTP/1.1\r\nx: ".to_vec();
        long.resize(HEAD_BYTES_MAX, b'y');
        assert_eq!(ask(&server, &long).0, "HTTP/1.1 431 Request Header Fields Too Large");
        assert_eq!(get(&server, "/health/live").0, "HTTP/1.1 200 OK", "it goes on");
        server.stop();
    }

    #[test]
    fn a_request_in_pieces_and_a_large_answer() {
        let metrics = "y".repeat(3 << 20);
        let server = start(Fixed { ready: Ok(()), metrics: metrics.clone() });
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".chunks(5) {
            stream.write_all(piece).unwrap();
            std::thread::yield_now();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with(&metrics));
        server.stop();
    }

    #[test]
    fn stopping_cuts_clients_that_say_nothing() {
        let server = server();
        let silent: Vec<_> =
            (0..THREADS + 2).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
        // All threads are taken when the last of these is in its slot.
        while server.shared.serving().iter().flatten().count() < THREADS {
            std::thread::yield_now();
        }
        server.stop();
        drop(silent);
    }

    #[test]
    fn a_connection_past_its_deadline_ends() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let socket = Arc::new(Socket {
            stream,
            deadline_ms: 0,
            readable: AtomicBool::new(false),
            wants_read: AtomicBool::new(false),
        });
        let reading = std::future::poll_fn(|_| {
            socket.wants_read.store(true, Ordering::Relaxed);
            Poll::<()>::Pending
        });
        assert_eq!(drive(reading, &socket).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
