//! One blocking connection to a broker: frames out, frames in, versions agreed once at the start.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use super::error::{ClientError, Result};
use crate::clock::monotonic_ms;
use crate::machine::error::ErrorCode;

/// Longest answer read. A frame that announces more is not read at all: it is either no Kafka or an attack.
pub const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// How this program names itself to brokers.
pub const CLIENT_ID: &str = "ringlog-cli";

/// A connection whose API versions are agreed.
pub struct Connection {
    stream: TcpStream,
    peer: String,
    correlation_id: i32,
    /// What the broker serves, by API key: lowest and highest version.
    versions: BTreeMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects to `peer` (`host:port`) and asks which versions it serves.
    pub fn open(peer: &str, timeout_ms: u64) -> Result<Connection> {
        let stream = dial(peer, timeout_ms)?;
        let mut connection =
            Connection { stream, peer: peer.to_owned(), correlation_id: 0, versions: BTreeMap::new() };
        connection.agree(monotonic_ms() + timeout_ms, timeout_ms)?;
        Ok(connection)
    }

    /// The highest version of `R` that both sides speak and that is at most `cap`.
    pub fn version<R: Request>(&self, cap: i16) -> Result<i16> {
        let ours = R::VERSIONS;
        let unsupported = || ClientError::Unsupported { peer: self.peer.clone(), api: api_name(R::KEY) };
        let (low, high) = self.versions.get(&R::KEY).copied().ok_or_else(unsupported)?;
        let version = ours.max.min(high).min(cap);
        if version < ours.min.max(low) { Err(unsupported()) } else { Ok(version) }
    }

    /// The bare socket, for those who make and read frames themselves.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Sends a request and waits for its answer. `cap` bounds the version.
    pub fn call<R: Request>(&mut self, request: &R, cap: i16, timeout_ms: u64) -> Result<R::Response> {
        let version = self.send(request, cap, timeout_ms)?;
        self.receive::<R>(version, timeout_ms)
    }

    /// Sends a request; [`Self::receive`] takes its answer. Returns the version used.
    pub fn send<R: Request>(&mut self, request: &R, cap: i16, timeout_ms: u64) -> Result<i16> {
        let version = self.version::<R>(cap)?;
        self.send_version(request, version, timeout_ms)?;
        Ok(version)
    }

    /// Reads the answer to the request sent last.
    pub fn receive<R: Request>(&mut self, version: i16, timeout_ms: u64) -> Result<R::Response> {
        let mut frame = self.read_frame(monotonic_ms() + timeout_ms, timeout_ms)?;
        self.check_header(&mut frame, R::Response::header_version(version))?;
        R::Response::decode(&mut frame, version)
            .map_err(|error| self.malformed(format!("{} version {version}: {error}", api_name(R::KEY))))
    }

    fn send_version<R: Request>(&mut self, request: &R, version: i16, timeout_ms: u64) -> Result<()> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
        let mut frame = BytesMut::zeroed(4);
        header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|error| {
                self.malformed(format!("{} version {version} cannot say this: {error}", api_name(R::KEY)))
            })?;
        let length =
            i32::try_from(frame.len() - 4).map_err(|_| self.malformed("request over 2 GiB".into()))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.set_write_timeout(Some(limit(timeout_ms))).map_err(|e| self.io(e))?;
        self.stream.write_all(&frame).map_err(|error| self.io_or_timeout(error, timeout_ms))
    }

    /// ApiVersions first, in version 3; a broker that does not know it answers with version 0's body (KIP-511).
    fn agree(&mut self, deadline: u64, timeout_ms: u64) -> Result<()> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("ringlog"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        self.send_version(&request, 3, timeout_ms)?;
        let mut frame = self.read_frame(deadline, timeout_ms)?;
        // The response header of ApiVersions is version 0 in every version.
        self.check_header(&mut frame, 0)?;
        let code = frame.get(..2).map(|b| i16::from_be_bytes([b[0], b[1]]));
        let version = match code.map(ErrorCode) {
            Some(ErrorCode::UNSUPPORTED_VERSION) => {
                self.send_version(&ApiVersionsRequest::default(), 0, timeout_ms)?;
                frame = self.read_frame(deadline, timeout_ms)?;
                self.check_header(&mut frame, 0)?;
                0
            }
            _ => 3,
        };
        let response = ApiVersionsResponse::decode(&mut frame, version)
            .map_err(|error| self.malformed(format!("ApiVersions: {error}")))?;
        if response.error_code != 0 {
            return Err(ClientError::kafka(response.error_code, format!("ApiVersions at {}", self.peer)));
        }
        self.versions =
            response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        Ok(())
    }

    fn check_header(&self, frame: &mut Bytes, header_version: i16) -> Result<()> {
        let header = ResponseHeader::decode(frame, header_version)
            .map_err(|error| self.malformed(format!("response header: {error}")))?;
        if header.correlation_id == self.correlation_id {
            return Ok(());
        }
        Err(self.malformed(format!(
            "correlation id {} where {} was due",
            header.correlation_id, self.correlation_id
        )))
    }

    fn read_frame(&mut self, deadline: u64, timeout_ms: u64) -> Result<Bytes> {
        let mut length = [0; 4];
        self.read_full(&mut length, deadline, timeout_ms)?;
        let length = i32::from_be_bytes(length);
        let size = usize::try_from(length).ok().filter(|size| (4..=RESPONSE_BYTES_MAX).contains(size));
        let size = size.ok_or_else(|| self.malformed(format!("a frame of {length} bytes")))?;
        // Grown while it arrives: a length alone takes no memory.
        let mut frame = Vec::with_capacity(size.min(1 << 20));
        while frame.len() < size {
            let from = frame.len();
            frame.resize(size.min(from + (1 << 20)), 0);
            self.read_full(&mut frame[from..], deadline, timeout_ms)?;
        }
        Ok(Bytes::from(frame))
    }

    fn read_full(&mut self, mut buffer: &mut [u8], deadline: u64, timeout_ms: u64) -> Result<()> {
        while !buffer.is_empty() {
            let left = deadline.saturating_sub(monotonic_ms());
            if left == 0 {
                return Err(ClientError::Timeout { peer: self.peer.clone(), ms: timeout_ms });
            }
            self.stream.set_read_timeout(Some(limit(left))).map_err(|error| self.io(error))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(self.io(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io_or_timeout(error, timeout_ms)),
            }
        }
        Ok(())
    }

    fn io(&self, source: io::Error) -> ClientError {
        ClientError::Io { peer: self.peer.clone(), source }
    }

    fn io_or_timeout(&self, error: io::Error, ms: u64) -> ClientError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                ClientError::Timeout { peer: self.peer.clone(), ms }
            }
            _ => self.io(error),
        }
    }

    fn malformed(&self, what: String) -> ClientError {
        ClientError::Malformed { peer: self.peer.clone(), what }
    }
}

/// A socket timeout; zero would mean "none" to the system.
fn limit(ms: u64) -> Duration {
    Duration::from_millis(ms.max(1))
}

/// A TCP connection to the first address of `peer` that answers, without Nagle's delay.
pub fn dial(peer: &str, timeout_ms: u64) -> Result<TcpStream> {
    let io = |source| ClientError::Io { peer: peer.to_owned(), source };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in peer.to_socket_addrs().map_err(io)? {
        match TcpStream::connect_timeout(&address, limit(timeout_ms)) {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(io)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(match last.kind() {
        io::ErrorKind::TimedOut => ClientError::Timeout { peer: peer.to_owned(), ms: timeout_ms },
        _ => io(last),
    })
}

/// Kafka's name of an API.
fn api_name(key: i16) -> String {
    ApiKey::try_from(key).map_or_else(|()| format!("API {key}"), |api| format!("{api:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// A peer that reads one request and answers with these bytes, then closes.
    fn peer_that_says(answer: Vec<u8>) -> (String, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut request = vec![0; i32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&answer).unwrap();
        });
        (address, server)
    }

    fn open_error(answer: Vec<u8>) -> ClientError {
        let (address, server) = peer_that_says(answer);
        let error = Connection::open(&address, 10_000).err().unwrap();
        server.join().unwrap();
        error
    }

    #[test]
    fn an_oversized_frame_is_refused_before_it_is_read() {
        let error = open_error(i32::MAX.to_be_bytes().to_vec());
        assert!(matches!(error, ClientError::Malformed { .. }), "{error}");
        let error = open_error((-1i32).to_be_bytes().to_vec());
        assert!(matches!(error, ClientError::Malformed { .. }), "{error}");
    }

    #[test]
    fn a_web_server_is_told_apart_from_a_broker() {
        let error = open_error(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
        assert!(matches!(error, ClientError::Malformed { .. }), "{error}");
    }

    #[test]
    fn a_wrong_correlation_id_is_not_taken_for_the_answer() {
        let error = open_error([&8i32.to_be_bytes()[..], &77i32.to_be_bytes(), &[0; 4]].concat());
        assert!(error.to_string().contains("correlation id 77 where 1 was due"), "{error}");
    }

    #[test]
    fn a_closed_connection_says_so() {
        let error = open_error(vec![0, 0]);
        assert!(error.is_retriable() && error.to_string().contains("closed the connection"), "{error}");
    }

    #[test]
    fn a_broker_that_knows_only_version_0_is_asked_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for (version, code) in [(3i16, 35i16), (0, 0)] {
                let mut length = [0; 4];
                stream.read_exact(&mut length).unwrap();
                let mut request = vec![0; i32::from_be_bytes(length) as usize];
                stream.read_exact(&mut request).unwrap();
                assert_eq!(request[..4], [&18i16.to_be_bytes()[..], &version.to_be_bytes()].concat());
                // Error code, one API: key 3, versions 0 to 4.
                let body = [code, 0, 1, 3, 0, 4].map(i16::to_be_bytes).concat();
                let frame = [&(4 + body.len() as i32).to_be_bytes()[..], &request[4..8], &body].concat();
                stream.write_all(&frame).unwrap();
            }
        });
        let connection = Connection::open(&address, 10_000).unwrap();
        server.join().unwrap();
        use kafka_protocol::messages::{FetchRequest, MetadataRequest};
        assert_eq!(connection.version::<MetadataRequest>(12).unwrap(), 4);
        assert_eq!(connection.version::<MetadataRequest>(2).unwrap(), 2);
        assert!(matches!(connection.version::<FetchRequest>(12), Err(ClientError::Unsupported { .. })));
    }
}
