//! Standard input, line by line, as records.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::SyncSender;

use bytes::Bytes;

use super::{InputFormat, ProduceArgs};
use crate::cli::client::records::Record;
use crate::cli::failure::Failure;
use crate::cli::record_json::{self, Line};
use crate::clock::wall_ms;

/// Longest line; no broker takes a record of that size.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// How lines become records.
pub struct Input {
    format: InputFormat,
    key_separator: Option<Vec<u8>>,
    key: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
    empty_as_null: bool,
    partition: Option<i32>,
}

impl Input {
    /// As the options say.
    pub fn new(args: &ProduceArgs) -> Input {
        let header = |(name, value): &(String, String)| (name.clone(), Some(Bytes::from(value.clone())));
        Input {
            format: args.format,
            key_separator: args.key_separator.clone(),
            key: args.key.clone().map(Bytes::from),
            headers: args.headers.iter().map(header).collect(),
            empty_as_null: args.empty_as_null,
            partition: args.partition,
        }
    }

    /// Sends every line of standard input, up to the first wrong one, or until nobody listens.
    pub fn read(&self, lines: &SyncSender<Result<Line, Failure>>) {
        let mut stdin = io::stdin().lock();
        for number in 1u64.. {
            let line = match read_line(&mut stdin) {
                Ok(None) => return,
                Ok(Some(line)) => {
                    self.parse(line).map_err(|e| Failure::failed(format!("line {number}: {e}")))
                }
                Err(error) => Err(Failure::failed(format!("cannot read standard input: {error}"))),
            };
            let last = line.is_err();
            if lines.send(line).is_err() || last {
                return;
            }
        }
    }

    fn parse(&self, line: Vec<u8>) -> Result<Line, String> {
        let mut parsed = match self.format {
            InputFormat::Json => record_json::from_json(&line)?,
            InputFormat::Lines => Line { record: self.split(Bytes::from(line))?, partition: None },
        };
        let record = &mut parsed.record;
        if record.timestamp_ms < 0 {
            record.timestamp_ms = wall_ms();
        }
        if let Some(key) = &self.key {
            record.key = Some(key.clone());
        }
        if self.empty_as_null {
            record.key = record.key.take().filter(|key| !key.is_empty());
            record.value = record.value.take().filter(|value| !value.is_empty());
        }
        record.headers.extend(self.headers.iter().cloned());
        parsed.partition = self.partition.or(parsed.partition);
        Ok(parsed)
    }

    fn split(&self, line: Bytes) -> Result<Record, String> {
        let Some(separator) = &self.key_separator else {
            return Ok(Record { timestamp_ms: -1, value: Some(line), ..Record::default() });
        };
        let at = line.windows(separator.len()).position(|window| window == separator.as_slice());
        let at = at.ok_or_else(|| {
            format!("no key: the separator `{}` is not in it", String::from_utf8_lossy(separator))
        })?;
        let (key, value) = (line.slice(..at), line.slice(at + separator.len()..));
        Ok(Record { timestamp_ms: -1, key: Some(key), value: Some(value), ..Record::default() })
    }
}

/// A line without its end (`\n` or `\r\n`); none at the end of the input.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if line.len() as u64 == LINE_BYTES_MAX {
        return Err(io::Error::other(format!("a line of over {LINE_BYTES_MAX} bytes")));
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(separator: Option<&str>) -> Input {
        Input {
            format: InputFormat::Lines,
            key_separator: separator.map(|text| text.as_bytes().to_vec()),
            key: None,
            headers: vec![("h".into(), Some(Bytes::from_static(b"1")))],
            empty_as_null: false,
            partition: Some(3),
        }
    }

    #[test]
    fn lines_end_in_either_way() {
        let mut text = &b"a\r\n\nlast"[..];
        let mut next = || read_line(&mut text).unwrap();
        assert_eq!(next(), Some(b"a".to_vec()));
        assert_eq!(next(), Some(vec![]));
        assert_eq!(next(), Some(b"last".to_vec()));
        assert_eq!(next(), None);
    }

    #[test]
    fn the_first_separator_ends_the_key() {
        let line = input(Some("::")).parse(b"k::v::w".to_vec()).unwrap();
        assert_eq!(line.record.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(line.record.value.as_deref(), Some(&b"v::w"[..]));
        assert_eq!((line.partition, line.record.headers.len()), (Some(3), 1));
        assert!(line.record.timestamp_ms > 0);
    }

    #[test]
    fn a_line_without_separator_is_an_error() {
        assert!(input(Some("::")).parse(b"kv".to_vec()).unwrap_err().contains("`::`"));
    }

    #[test]
    fn empty_is_null_only_when_asked() {
        let mut input = input(Some(":"));
        let value = |input: &Input| input.parse(b"k:".to_vec()).unwrap().record.value;
        assert_eq!(value(&input), Some(Bytes::new()));
        input.empty_as_null = true;
        assert_eq!(value(&input), None);
    }
}
