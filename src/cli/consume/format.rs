//! The form in which `consume` prints a record: literal bytes and kcat's `%` tokens.

use crate::cli::client::TopicPartition;
use crate::cli::client::records::Record;
use crate::cli::units;

/// A parsed `--format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(Vec<u8>),
    Value,
    ValueSize,
    Key,
    KeySize,
    Headers,
    Topic,
    Partition,
    Offset,
    Timestamp,
}

/// Parses a `--format`; `%%` is a percent sign.
pub fn parse(text: &str) -> Result<Format, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (literal, behind) = rest.split_at(rest.find('%').unwrap_or(rest.len()));
        if !literal.is_empty() {
            tokens.push(Token::Literal(units::unescape(literal)?));
        }
        let mut chars = behind.chars();
        if chars.next().is_none() {
            break;
        }
        tokens.push(match chars.next() {
            Some('%') => Token::Literal(b"%".to_vec()),
            Some('s') => Token::Value,
            Some('S') => Token::ValueSize,
            Some('k') => Token::Key,
            Some('K') => Token::KeySize,
            Some('h') => Token::Headers,
            Some('t') => Token::Topic,
            Some('p') => Token::Partition,
            Some('o') => Token::Offset,
            Some('T') => Token::Timestamp,
            Some(other) => return Err(format!("`%{other}` is no token; %s %S %k %K %h %t %p %o %T %% are")),
            None => return Err("a `%` at the end; write %% for a percent sign".to_owned()),
        });
        rest = chars.as_str();
    }
    Ok(Format(tokens))
}

impl Format {
    /// The value and a line end.
    pub fn value() -> Format {
        Format(vec![Token::Value, Token::Literal(b"\n".to_vec())])
    }

    /// Key, separator, value and a line end.
    pub fn key_and_value(separator: &[u8]) -> Format {
        let line_end = Token::Literal(b"\n".to_vec());
        Format(vec![Token::Key, Token::Literal(separator.to_vec()), Token::Value, line_end])
    }

    /// Writes a record to `out`. Null keys and values are written as nothing.
    pub fn write(&self, at: &TopicPartition, record: &Record, out: &mut Vec<u8>) {
        let size = |bytes: Option<usize>| bytes.map_or("-1".to_owned(), |size| size.to_string());
        for token in &self.0 {
            match token {
                Token::Literal(bytes) => out.extend_from_slice(bytes),
                Token::Value => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
                Token::Key => out.extend_from_slice(record.key.as_deref().unwrap_or_default()),
                Token::ValueSize => out.extend(size(record.value.as_ref().map(|v| v.len())).bytes()),
                Token::KeySize => out.extend(size(record.key.as_ref().map(|k| k.len())).bytes()),
                Token::Headers => write_headers(record, out),
                Token::Topic => out.extend_from_slice(at.topic.as_bytes()),
                Token::Partition => out.extend(at.partition.to_string().bytes()),
                Token::Offset => out.extend(record.offset.to_string().bytes()),
                Token::Timestamp => out.extend(record.timestamp_ms.to_string().bytes()),
            }
        }
    }
}

/// `name=value,name=value`; a null value is `NULL`, as kcat has it.
fn write_headers(record: &Record, out: &mut Vec<u8>) {
    for (index, (name, value)) in record.headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_deref().unwrap_or(b"NULL"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn shown(format: &str) -> String {
        let record = Record {
            offset: 7,
            timestamp_ms: 1_000,
            key: None,
            value: Some(Bytes::from_static(b"v")),
            headers: vec![("a".into(), Some(Bytes::from_static(b"1"))), ("b".into(), None)],
        };
        let mut out = Vec::new();
        parse(format).unwrap().write(&TopicPartition::new("t", 2), &record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_token_has_its_meaning() {
        assert_eq!(
            shown(r"%t-%p@%o %T [%k|%K] [%s|%S] %h 100%%\n"),
            "t-2@7 1000 [|-1] [v|1] a=1,b=NULL 100%\n"
        );
        assert_eq!(shown(""), "");
    }

    #[test]
    fn unknown_tokens_are_refused() {
        assert!(parse("%x").unwrap_err().contains("%x"));
        assert!(parse("100%").is_err() && parse(r"\q").is_err());
    }
}
