//! Parsers of what people type: sizes, durations, rates, addresses, positions in a log, separators.
//! Each answers a wrong value with a sentence that shows a right one.

use super::start_args::{CoreList, Voter};

/// Bytes: `1000`, `64KiB`, `64k` (both 65,536), `1MB` (1,000,000), `1.5GiB`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write for instance 65536, 64KiB or 1MB");
    let (number, unit) = split_unit(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    scaled(number, factor).ok_or_else(wrong)
}

/// A size that fits the signed 32-bit lengths of the protocol and is not zero.
pub fn bytes_i32(text: &str) -> Result<i32, String> {
    let size = bytes(text)?;
    i32::try_from(size)
        .ok()
        .filter(|size| *size > 0)
        .ok_or_else(|| format!("`{text}` is out of range; 1 to {} bytes are possible", i32::MAX))
}

/// Milliseconds: `500ms`, `10s`, `2m`, `1h`, `7d`; a bare number is seconds.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a duration; write for instance 500ms, 10s or 2m");
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "ms" => 1u64,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    scaled(number, factor).ok_or_else(wrong)
}

/// What the load generator offers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// Closed loop: the next request leaves when an answer comes.
    Max,
    /// Open loop, bytes of record batches each second, over all connections.
    Bytes(f64),
    /// Open loop, records each second, over all connections.
    Records(f64),
}

/// `max`, `200MB/s`, `64KiB/s`, `50000/s` or `50000` (records).
pub fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("`{text}` is not a rate; write max, 200MB/s or 50000/s (records)");
    if text == "max" {
        return Ok(Rate::Max);
    }
    let amount = text.strip_suffix("/s").unwrap_or(text);
    let (_, unit) = split_unit(amount);
    if unit.is_empty() {
        let records: f64 = amount.parse().map_err(|_| wrong())?;
        return if records > 0.0 { Ok(Rate::Records(records)) } else { Err(wrong()) };
    }
    match bytes(amount) {
        Ok(size) if size > 0 && text.ends_with("/s") => Ok(Rate::Bytes(size as f64)),
        _ => Err(wrong()),
    }
}

/// Where in a partition to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The log start offset.
    Earliest,
    /// The log end: only what comes from now on.
    Latest,
    /// This offset.
    Offset(i64),
    /// So many records before the end.
    BeforeEnd(i64),
    /// The first record at or after this time, in milliseconds since 1970.
    Time(i64),
    /// So many milliseconds before now.
    Ago(i64),
}

/// `beginning`/`earliest`, `end`/`latest`, `42`, `-10` (ten before the end), `@1700000000000` (milliseconds),
/// `@2026-01-31T12:00:00Z`, `@-1h` (an hour ago).
pub fn position(text: &str) -> Result<Position, String> {
    let wrong = || {
        format!(
            "`{text}` is no position; write beginning, end, an offset, -N (N before the end), \
             @MILLISECONDS, @2026-01-31T12:00:00Z or @-1h"
        )
    };
    if let Some(time) = text.strip_prefix('@') {
        if let Some(ago) = time.strip_prefix('-') {
            let ms = duration_ms(ago).map_err(|_| wrong())?;
            return i64::try_from(ms).map(Position::Ago).map_err(|_| wrong());
        }
        let ms = digits(time).or_else(|| utc_ms(time));
        return ms.map(Position::Time).ok_or_else(wrong);
    }
    match text {
        "beginning" | "earliest" => Ok(Position::Earliest),
        "end" | "latest" => Ok(Position::Latest),
        _ => match text.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(Position::Offset(offset)),
            Ok(back) if back > i64::MIN => Ok(Position::BeforeEnd(-back)),
            _ => Err(wrong()),
        },
    }
}

/// Milliseconds since 1970 of `YYYY-MM-DDTHH:MM:SS[.mmm]Z`, or `YYYY-MM-DD` (its first instant).
fn utc_ms(text: &str) -> Option<i64> {
    let (date, time) = match text.strip_suffix('Z') {
        Some(rest) => rest.split_once('T')?,
        None => (text, "00:00:00"),
    };
    let fields: Vec<&str> = date.split('-').collect();
    let [year, month, day] = fields[..] else { return None };
    let (year, month, day): (i64, i64, i64) = (digits(year)?, digits(month)?, digits(day)?);
    if !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=days_of(year, month)).contains(&day)
    {
        return None;
    }
    let (clock, millis) = time.split_once('.').unwrap_or((time, "0"));
    let fields: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = fields[..] else { return None };
    let (hour, minute, second) = (digits(hour)?, digits(minute)?, digits(second)?);
    if hour > 23 || minute > 59 || second > 59 || millis.len() > 3 {
        return None;
    }
    let fraction = digits(millis)? * 10i64.pow(3 - millis.len() as u32);
    let before_year: i64 = (1970..year).map(|y| if is_leap(y) { 366 } else { 365 }).sum();
    let before_month: i64 = (1..month).map(|m| days_of(year, m)).sum();
    let days = before_year + before_month + day - 1;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000 + fraction)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A number of ASCII digits only (`parse` alone would take a sign).
fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// `NAME=VALUE`; the value may be empty and may hold further `=`.
pub fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

/// `HOST:PORT`, with IPv6 hosts in brackets.
pub fn address(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is not HOST:PORT (IPv6 hosts in brackets: [::1]:9092)");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    if host.is_empty() || (host.contains([':', '[', ']']) && !bracketed) || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    Ok(text.to_owned())
}

/// `HOST:PORT`, or `off` for none.
pub fn address_or_off(text: &str) -> Result<String, String> {
    if text == "off" { Ok(text.to_owned()) } else { address(text) }
}

/// `ID@HOST:PORT`.
pub fn voter(text: &str) -> Result<Voter, String> {
    let wrong = || format!("`{text}` is not ID@HOST:PORT");
    let (id, at) = text.split_once('@').ok_or_else(wrong)?;
    let id: i32 = id.parse().ok().filter(|id| *id >= 0).ok_or_else(wrong)?;
    Ok(Voter { id, address: address(at).map_err(|_| wrong())? })
}

/// Largest core number accepted; no machine has more.
const CORE_MAX: u32 = 4095;

/// `0-3,6`.
pub fn core_list(text: &str) -> Result<CoreList, String> {
    let wrong = || format!("`{text}` is not a list of cores; write for instance 0-3,6");
    let mut cores = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) =
            (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
        if first > last || last > CORE_MAX {
            return Err(wrong());
        }
        cores.extend(first..=last);
    }
    Ok(CoreList(cores.into_iter().collect()))
}

/// A separator as typed in a shell: `\t`, `\n`, `\r`, `\0`, `\\` and `\xHH` stand for those bytes.
pub fn separator(text: &str) -> Result<Vec<u8>, String> {
    let bytes = unescape(text)?;
    if bytes.is_empty() { Err("a separator cannot be empty".to_owned()) } else { Ok(bytes) }
}

/// Replaces the escapes that [`separator`] names.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match rest.next() {
            Some('t') => bytes.push(b'\t'),
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('0') => bytes.push(0),
            Some('\\') => bytes.push(b'\\'),
            Some('x') => {
                let hex: String = rest.by_ref().take(2).collect();
                let byte = u8::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == 2);
                bytes.push(byte.ok_or_else(|| format!("`\\x{hex}` is not \\xHH"))?);
            }
            other => {
                let shown = other.map(String::from).unwrap_or_default();
                return Err(format!("`\\{shown}` is no escape; \\t \\n \\r \\0 \\\\ and \\xHH are"));
            }
        }
    }
    Ok(bytes)
}

/// Splits a number from the unit behind it.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

fn scaled(number: &str, factor: u64) -> Option<u64> {
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    // Only a fraction takes the way through floating point, which is exact for every size that people type.
    let value = number.parse::<f64>().ok()? * factor as f64;
    (value >= 0.0 && value < 2f64.powi(53)).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", 0),
            ("1000", 1000),
            ("64KiB", 65_536),
            ("64k", 65_536),
            ("1MB", 1_000_000),
            ("1.5GiB", 1_610_612_736),
            ("7b", 7),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "k", "-1", "1 k", "1tb", "1.2.3", "99999999999g"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert!(bytes_i32("2GiB").is_err() && bytes_i32("0").is_err());
        assert_eq!(bytes_i32("1MiB"), Ok(1 << 20));
    }

    #[test]
    fn durations() {
        for (text, expected) in
            [("10", 10_000), ("10s", 10_000), ("500ms", 500), ("2m", 120_000), ("0.5s", 500)]
        {
            assert_eq!(duration_ms(text), Ok(expected), "{text}");
        }
        assert!(duration_ms("5 s").is_err() && duration_ms("s").is_err() && duration_ms("5us").is_err());
    }

    #[test]
    fn rates() {
        assert_eq!(rate("max"), Ok(Rate::Max));
        assert_eq!(rate("200MB/s"), Ok(Rate::Bytes(200e6)));
        assert_eq!(rate("1MiB/s"), Ok(Rate::Bytes(1048576.0)));
        assert_eq!(rate("5000/s"), Ok(Rate::Records(5000.0)));
        assert_eq!(rate("0.5"), Ok(Rate::Records(0.5)));
        for text in ["", "0", "0/s", "-3/s", "200MB", "fast", "0MB/s", "/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn positions() {
        assert_eq!(position("beginning"), Ok(Position::Earliest));
        assert_eq!(position("latest"), Ok(Position::Latest));
        assert_eq!(position("42"), Ok(Position::Offset(42)));
        assert_eq!(position("-10"), Ok(Position::BeforeEnd(10)));
        assert_eq!(position("@0"), Ok(Position::Time(0)));
        assert_eq!(position("@-1h"), Ok(Position::Ago(3_600_000)));
        assert_eq!(position("@2026-01-31T12:00:00Z"), Ok(Position::Time(1_769_860_800_000)));
        assert_eq!(position("@2024-02-29"), Ok(Position::Time(1_709_164_800_000)));
        assert_eq!(position("@1970-01-01T00:00:00.25Z"), Ok(Position::Time(250)));
        for text in ["", "x", "@", "@x", "@2025-02-29", "@2026-1-1T00:00Z", "@2026-01-01T24:00:00Z", "@+5"] {
            assert!(position(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_and_voters() {
        assert!(address("127.0.0.1:9092").is_ok() && address("[::1]:0").is_ok() && address("h:1").is_ok());
        for text in ["", "h", "h:", ":1", "h:99999", "::1:9092", "[]:1"] {
            assert!(address(text).is_err(), "{text}");
        }
        assert_eq!(address_or_off("off"), Ok("off".to_owned()));
        assert_eq!(voter("2@b:9"), Ok(Voter { id: 2, address: "b:9".to_owned() }));
        assert!(voter("b:9").is_err() && voter("-1@b:9").is_err() && voter("1@b").is_err());
    }

    #[test]
    fn core_lists() {
        assert_eq!(core_list("0-3,6,2"), Ok(CoreList(vec![0, 1, 2, 3, 6])));
        assert!(core_list("3-1").is_err() && core_list("").is_err() && core_list("0-99999").is_err());
    }

    #[test]
    fn separators() {
        assert_eq!(separator(r"\t"), Ok(vec![b'\t']));
        assert_eq!(separator(r"::\x00\\"), Ok(b"::\0\\".to_vec()));
        assert_eq!(separator("é"), Ok("é".as_bytes().to_vec()));
        for text in ["", r"\", r"\q", r"\x1", r"\xzz"] {
            assert!(separator(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings() {
        assert_eq!(name_value("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(name_value("a="), Ok(("a".to_owned(), String::new())));
        assert!(name_value("=b").is_err() && name_value("a").is_err());
    }

    proptest! {
        #[test]
        fn text_without_backslashes_is_itself(text in "[^\\\\]{1,20}") {
            prop_assert_eq!(separator(&text), Ok(text.into_bytes()));
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            let _ = (bytes(&text), duration_ms(&text), rate(&text), position(&text), separator(&text));
            let _ = (address(&text), voter(&text), core_list(&text), name_value(&text));
            let _ = position(&format!("@{text}"));
        }
    }
}
