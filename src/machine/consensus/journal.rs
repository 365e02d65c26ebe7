//! What raft-rs has to say, handed to two plain functions of the caller: machines write no logs of their own.

use slog::{Drain, Key, Logger, Never, OwnedKVList, Record, Serializer};
use std::fmt::{Arguments, Write};

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For who looks for a fault in Raft itself.
    Debug,
    /// Elections, membership.
    Info,
    /// Unusual, and dealt with.
    Warn,
    /// A bug, or the line before a panic.
    Error,
}

/// The functions that take the lines. They are asked for every line, so that a level may change at run time.
#[derive(Clone, Copy)]
pub struct Journal {
    /// Whether lines of a level are wanted.
    pub wants: fn(Level) -> bool,
    /// Takes a line.
    pub take: fn(Level, &str),
}

impl Journal {
    /// Nothing is wanted.
    pub const SILENT: Journal = Journal { wants: |_| false, take: |_, _| {} };

    pub(super) fn logger(self) -> Logger {
        Logger::root(self, slog::o!())
    }
}

fn level(level: slog::Level) -> Level {
    match level {
        slog::Level::Critical | slog::Level::Error => Level::Error,
        slog::Level::Warning => Level::Warn,
        slog::Level::Info => Level::Info,
        slog::Level::Debug | slog::Level::Trace => Level::Debug,
    }
}

impl Drain for Journal {
    type Ok = ();
    type Err = Never;

    fn is_enabled(&self, at: slog::Level) -> bool {
        (self.wants)(level(at))
    }

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let at = level(record.level());
        if (self.wants)(at) {
            let mut line = Line(record.msg().to_string());
            let written = slog::KV::serialize(&record.kv(), record, &mut line);
            let written = written.and_then(|()| slog::KV::serialize(values, record, &mut line));
            written.expect("writing to a string cannot fail");
            (self.take)(at, &line.0);
        }
        Ok(())
    }
}

struct Line(String);

impl Serializer for Line {
    fn emit_arguments(&mut self, key: Key, value: &Arguments<'_>) -> slog::Result {
        write!(self.0, ", {key}: {value}").map_err(slog::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    thread_local! {
        static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    }

    #[test]
    fn lines_arrive_with_their_values_where_they_are_wanted() {
        let take = |level, line: &str| LINES.with_borrow_mut(|lines| lines.push((level, line.to_owned())));
        let journal = Journal { wants: |level| level >= Level::Info, take };
        let logger = journal.logger().new(slog::o!("raft_id" => 3));
        slog::info!(logger, "became follower at term {}", 7; "vote" => 2);
        slog::debug!(logger, "not wanted");
        let lines = LINES.take();
        assert_eq!(lines, [(Level::Info, "became follower at term 7, vote: 2, raft_id: 3".to_owned())]);
    }
}
