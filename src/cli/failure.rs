//! How a subcommand ends when it does not succeed, and the exit status that scripts see.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Why a subcommand stopped. The text is one line that says what is wrong and what to do.
#[derive(Debug)]
pub enum Failure {
    /// The command line itself is wrong: exit status 2.
    Usage(String),
    /// It was tried and failed: exit status 1.
    Failed(String),
    /// Whoever read our standard output went away (`ringlog consume t | head`): a quiet, clean end.
    StdoutClosed,
}

impl Failure {
    /// A failure (exit status 1) with the given line.
    pub fn failed(text: impl Into<String>) -> Failure {
        Failure::Failed(text.into())
    }

    /// A wrong use (exit status 2) with the given line.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure::Usage(text.into())
    }

    /// What an error while writing to standard output means.
    pub fn of_stdout(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::StdoutClosed,
            _ => Failure::Failed(format!("cannot write to standard output: {error}")),
        }
    }

    /// The exit status cli.md promises.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Failed(_) => ExitCode::from(1),
            Failure::StdoutClosed => ExitCode::SUCCESS,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Messages may carry a broker's text: keep the promise of one line.
            Failure::Usage(text) | Failure::Failed(text) => f.write_str(&text.replace(['\n', '\r'], " ")),
            Failure::StdoutClosed => f.write_str("standard output was closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_the_broker_said() {
        let failure = Failure::failed("first\nsecond\r\nthird");
        assert_eq!(failure.to_string(), "first second  third");
    }

    #[test]
    fn only_a_broken_pipe_is_quiet() {
        assert!(matches!(Failure::of_stdout(&io::ErrorKind::BrokenPipe.into()), Failure::StdoutClosed));
        assert!(matches!(Failure::of_stdout(&io::ErrorKind::StorageFull.into()), Failure::Failed(_)));
    }
}
