//! Answers off a socket, frame by frame, with one buffer that is used again and again.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Duration;

use crate::cli::client::connection::RESPONSE_BYTES_MAX;

/// How long a read waits before its caller may look at the time.
const LOOK_MS: u64 = 200;
const BUFFER_BYTES: usize = 256 << 10;

/// Reads answers in order and checks their correlation ids, which count up from 0.
pub struct Answers {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    next_id: i32,
}

impl Answers {
    /// Takes a connected socket on which nothing was sent before.
    pub fn new(stream: TcpStream) -> io::Result<Answers> {
        stream.set_read_timeout(Some(Duration::from_millis(LOOK_MS)))?;
        Ok(Answers { stream, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, next_id: 0 })
    }

    /// An answer that is here already, from its correlation id on.
    pub fn ready(&mut self) -> io::Result<Option<&[u8]>> {
        let have = &self.buffer[self.start..self.end];
        let Some((length, rest)) = have.split_first_chunk::<4>() else { return Ok(None) };
        let size = frame_size(*length)?;
        let Some((id, _)) = rest.get(..size).and_then(|frame| frame.split_first_chunk::<4>()) else {
            return Ok(None);
        };
        if i32::from_be_bytes(*id) != self.next_id {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer out of order"));
        }
        self.next_id = self.next_id.wrapping_add(1);
        let from = self.start + 4;
        self.start = from + size;
        Ok(Some(&self.buffer[from..from + size]))
    }

    /// Waits for more bytes. False when none came for a while: time to look whether to go on waiting.
    pub fn wait(&mut self) -> io::Result<bool> {
        self.make_room()?;
        loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.end += count;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves what is there to the front, and grows the buffer to the frame that has begun.
    fn make_room(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let needed = match self.buffer[self.start..self.end].split_first_chunk::<4>() {
            Some((length, _)) => 4 + frame_size(*length)?,
            None => 4,
        };
        if self.start + needed > self.buffer.len() || self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if needed > self.buffer.len() {
                self.buffer.resize(needed, 0);
            }
        }
        Ok(())
    }
}

fn frame_size(length: [u8; 4]) -> io::Result<usize> {
    let length = i32::from_be_bytes(length);
    usize::try_from(length)
        .ok()
        .filter(|size| (4..=RESPONSE_BYTES_MAX).contains(size))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, Answers) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, Answers::new(near).unwrap())
    }

    fn frame(id: i32, size: usize) -> Vec<u8> {
        let mut frame = ((size + 4) as i32).to_be_bytes().to_vec();
        frame.extend_from_slice(&id.to_be_bytes());
        frame.resize(size + 8, id as u8);
        frame
    }

    /// Reads until `count` answers came; returns their sizes.
    fn take(answers: &mut Answers, count: usize) -> io::Result<Vec<usize>> {
        let mut sizes = Vec::new();
        while sizes.len() < count {
            match answers.ready()? {
                Some(answer) => {
                    assert!(answer[4..].iter().all(|byte| *byte == answer[3]));
                    sizes.push(answer.len() - 4);
                }
                None => drop(answers.wait()?),
            }
        }
        Ok(sizes)
    }

    #[test]
    fn frames_come_whole_whatever_the_pieces() {
        let (mut far, mut answers) = pair();
        let sizes = [0, 3, 100, BUFFER_BYTES - 8, 5, 3 * BUFFER_BYTES, 1];
        let bytes: Vec<u8> =
            sizes.iter().enumerate().flat_map(|(id, size)| frame(id as i32, *size)).collect();
        let writer = std::thread::spawn(move || {
            for piece in bytes.chunks(997) {
                far.write_all(piece).unwrap();
            }
            far
        });
        assert_eq!(take(&mut answers, sizes.len()).unwrap(), sizes);
        drop(writer.join().unwrap());
        assert_eq!(answers.wait().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn an_answer_out_of_order_is_an_error() {
        let (mut far, mut answers) = pair();
        far.write_all(&frame(1, 2)).unwrap();
        assert_eq!(take(&mut answers, 1).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn silence_ends_the_wait() {
        let (_far, mut answers) = pair();
        assert!(!answers.wait().unwrap());
    }
}
