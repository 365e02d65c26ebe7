//! CPU time of processes, from `/proc`.

use std::fs;

use crate::cli::failure::Failure;

/// Length of the ticks in `/proc/PID/stat`: USER_HZ is 100 on every architecture that Ringlog runs on.
const TICK_MS: u64 = 10;

/// User and system time of the processes together, in milliseconds.
pub fn of_processes(pids: &[u32]) -> Result<u64, Failure> {
    pids.iter().map(|pid| of_file(&format!("/proc/{pid}/stat"))).sum()
}

/// User and system time of this process, in milliseconds.
pub fn of_self() -> Result<u64, Failure> {
    of_file("/proc/self/stat")
}

fn of_file(path: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::failed(format!("no CPU time in {path} ({error}); does the process run?"))
    })?;
    parse(&text).ok_or_else(|| Failure::failed(format!("no CPU time in {path}")))
}

/// Fields 14 and 15, counted behind the command, which stands in parentheses and may hold anything.
fn parse(stat: &str) -> Option<u64> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * TICK_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_may_hold_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 1000 10";
        assert_eq!(parse(stat), Some(3_000));
        assert_eq!(parse("7 (x) S 1"), None);
    }

    #[test]
    fn this_process_has_a_cpu_time_and_no_process_has_none() {
        assert!(of_self().is_ok());
        assert!(of_processes(&[u32::MAX]).is_err());
    }
}
