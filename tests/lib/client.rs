//! A raw Kafka client over one socket: frames out and in, whenever the test wants.

use crate::broker::PATIENCE;
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// One connection.
pub struct Client {
    /// The socket.
    pub stream: TcpStream,
    correlation_id: i32,
}

/// A whole request frame, its length included.
///
/// # Panics
/// When the version cannot say what the request says.
pub fn frame<R: Request>(request: &R, version: i16, correlation_id: i32) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("it")));
    let mut frame = BytesMut::zeroed(4);
    header.encode(&mut frame, R::header_version(version)).expect("a header can be encoded");
    request.encode(&mut frame, version).expect("this version says what the request says");
    let length = i32::try_from(frame.len() - 4).expect("frames are below 2 GiB");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.to_vec()
}

/// Reads a whole response frame, without its length.
///
/// # Errors
/// `UnexpectedEof` when the connection was closed, and what the socket says.
pub fn read_frame(stream: &mut TcpStream) -> io::Result<Bytes> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).map_err(io::Error::other)?;
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    Ok(Bytes::from(frame))
}

/// Decodes a response frame.
///
/// # Panics
/// When it is not such a response, or bytes are left over.
pub fn decode<R: Request>(mut frame: Bytes, version: i16) -> (i32, R::Response) {
    let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version));
    let header = header.expect("a response header");
    let response = R::Response::decode(&mut frame, version).expect("a response of this version");
    assert!(!frame.has_remaining(), "{} bytes behind the response", frame.remaining());
    (header.correlation_id, response)
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn connect(address: &str) -> Client {
        let stream = TcpStream::connect(address).expect("the broker takes connections");
        stream.set_nodelay(true).expect("a socket option");
        Client::over(stream)
    }

    /// Over a socket that is connected already, to read in one thread what another one asks for.
    ///
    /// # Panics
    /// When the socket is gone.
    pub fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        Client { stream, correlation_id: 0 }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// What the socket says.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request and does not wait. Gives its correlation id.
    ///
    /// # Panics
    /// When the connection is closed.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> i32 {
        self.correlation_id += 1;
        let bytes = frame(request, version, self.correlation_id);
        self.send_raw(&bytes).expect("the broker reads");
        self.correlation_id
    }

    /// Receives the next response, which must be the one to `correlation_id`.
    ///
    /// # Panics
    /// When it is another one, or the connection is closed.
    pub fn receive<R: Request>(&mut self, version: i16, correlation_id: i32) -> R::Response {
        let frame = read_frame(&mut self.stream).expect("the broker answers");
        let (id, response) = decode::<R>(frame, version);
        assert_eq!(id, correlation_id, "responses come in the order of the requests");
        response
    }

    /// Sends a request and waits for its response.
    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        let id = self.send(request, version);
        self.receive::<R>(version, id)
    }

    /// Whether the broker closes the connection, without another response.
    ///
    /// # Panics
    /// When neither happens.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0; 1];
        match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => true,
            Err(e) => panic!("the broker neither answered nor closed: {e}"),
        }
    }
}
