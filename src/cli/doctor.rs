//! `ringlog doctor`: whether this host suits a broker, and what to change where it does not. Each finding names its
//! fix. Nothing is left behind: the file that is written to measure the disk never has a name.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use hdrhistogram::Histogram;
use ringlog_storage::chunk::AlignedBuffer;
use ringlog_storage::disk::{BLOCK, Disk, RealDisk};
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::{self, Table};
use crate::clock::monotonic_us;
use crate::host;

/// How long the disk's flush latency is measured.
const MEASURE_US: u64 = 1_000_000;
/// Blocks that the measured writes go round in.
const MEASURE_BLOCKS: u64 = 256;
/// A flush slower than this at the 99th percentile makes every durable produce slow.
const FLUSH_P99_WARN_US: u64 = 10_000;
/// Free space below which a broker soon refuses produce (it keeps a reserve of 256 MiB).
const FREE_FAIL_BYTES: u64 = 512 << 20;
const FREE_WARN_BYTES: u64 = 10 << 30;
/// Open files that a broker with many partitions and clients wants.
const FILES_WANTED: u64 = 65_536;
/// Mappings that many sealed segments want; the kernel's own default is 65,530.
const MAPPINGS_WANTED: u64 = 262_144;
/// The oldest kernel that glommio runs on.
const KERNEL_MIN: (u32, u32) = (5, 11);

/// What `ringlog doctor` takes.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// The data folder, or where it is to be
    #[arg(long, value_name = "DIR", default_value = "./ringlog-data")]
    data_dir: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

/// One thing looked at.
#[derive(Debug)]
struct Finding {
    check: &'static str,
    level: Level,
    /// What was found.
    found: String,
    /// What to change; empty where nothing is to be changed.
    fix: String,
    /// Figures for programs.
    figures: Value,
}

impl Finding {
    fn new(check: &'static str, level: Level, found: impl Into<String>, fix: impl Into<String>) -> Finding {
        let fix = if level == Level::Ok { String::new() } else { fix.into() };
        Finding { check, level, found: found.into(), fix, figures: Value::Null }
    }

    fn with(mut self, figures: Value) -> Finding {
        self.figures = figures;
        self
    }

    fn json(&self) -> Value {
        json!({ "check": self.check, "level": self.level.name(), "found": self.found,
            "fix": if self.fix.is_empty() { Value::Null } else { json!(self.fix) }, "figures": self.figures })
    }
}

/// Runs the subcommand.
pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let mut findings = host_findings();
    findings.extend(folder_findings(&args.data_dir));
    let fails = findings.iter().filter(|f| f.level == Level::Fail).count();
    let warns = findings.iter().filter(|f| f.level == Level::Warn).count();
    if args.json {
        let list: Vec<Value> = findings.iter().map(Finding::json).collect();
        output::print_json(&json!({ "data_dir": args.data_dir.display().to_string(), "fails": fails,
            "warnings": warns, "findings": list }))?;
    } else {
        let mut table = Table::new(&["CHECK", "RESULT", "FOUND"]);
        for finding in &findings {
            table.row(vec![finding.check.into(), finding.level.name().into(), finding.found.clone()]);
        }
        table.print()?;
        for finding in findings.iter().filter(|f| f.level != Level::Ok) {
            output::print_line(&format!("{} {}: {}", finding.level.name(), finding.check, finding.fix))?;
        }
    }
    if fails == 0 {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{fails} of {} checks failed: a broker will not run well, or not at all",
        findings.len()
    )))
}

fn host_findings() -> Vec<Finding> {
    let limits = read("/proc/self/limits").unwrap_or_default();
    vec![
        kernel(&read("/proc/sys/kernel/osrelease").unwrap_or_default()),
        io_uring(),
        locked_memory(limit(&limits, "Max locked memory")),
        open_files(limit(&limits, "Max open files")),
        mappings(read("/proc/sys/vm/max_map_count").and_then(|text| text.parse().ok())),
        cpus(),
        governor(read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        clock(read("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        huge_pages(read("/sys/kernel/mm/transparent_hugepage/enabled")),
    ]
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let level = if version >= KERNEL_MIN { Level::Ok } else { Level::Fail };
    let fix = format!("run a kernel of {}.{} or newer", KERNEL_MIN.0, KERNEL_MIN.1);
    Finding::new("kernel", level, format!("Linux {release}"), fix)
}

fn io_uring() -> Finding {
    match host::check_io_uring() {
        Ok(()) => Finding::new("io_uring", Level::Ok, "a ring can be made", ""),
        Err(line) => Finding::new("io_uring", Level::Fail, "a ring cannot be made", line),
    }
}

/// Soft and hard limit by its name in `/proc/self/limits`; `u64::MAX` for unlimited.
fn limit(limits: &str, name: &str) -> Option<(u64, u64)> {
    let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = rest.split_whitespace();
    let mut number = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    };
    Some((number()?, number()?))
}

fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u64)
}

fn shown_limit(value: u64, unit: u64, name: &str) -> String {
    if value == u64::MAX { "unlimited".to_owned() } else { format!("{}{name}", value / unit) }
}

fn locked_memory(limit: Option<(u64, u64)>) -> Finding {
    let Some((_, hard)) = limit else {
        return Finding::new("locked memory", Level::Warn, "the limit cannot be read", "mount /proc");
    };
    // One executor a core and one for control.
    let needed = (cores() + 1) * host::LOCKED_BYTES_PER_EXECUTOR;
    let level = if hard >= needed || host::is_privileged() { Level::Ok } else { Level::Fail };
    let fix = format!(
        "raise it to {} KiB or more with `ulimit -l` or LimitMEMLOCK= in the service unit",
        needed / 1024
    );
    let found =
        format!("{} may be locked, {} KiB are needed", shown_limit(hard, 1024, " KiB"), needed / 1024);
    Finding::new("locked memory", level, found, fix)
        .with(json!({ "limit_bytes": hard, "needed_bytes": needed }))
}

fn open_files(limit: Option<(u64, u64)>) -> Finding {
    let Some((_, hard)) = limit else {
        return Finding::new("open files", Level::Warn, "the limit cannot be read", "mount /proc");
    };
    let level = match hard {
        n if n < host::FILES_MIN => Level::Fail,
        n if n < FILES_WANTED => Level::Warn,
        _ => Level::Ok,
    };
    let fix =
        format!("raise it to {FILES_WANTED} or more with `ulimit -n` or LimitNOFILE= in the service unit");
    let found = format!("{} may be open (hard limit)", shown_limit(hard, 1, ""));
    Finding::new("open files", level, found, fix).with(json!({ "limit_files": hard }))
}

fn mappings(count: Option<u64>) -> Finding {
    let Some(count) = count else {
        return Finding::new("vm.max_map_count", Level::Warn, "it cannot be read", "mount /proc");
    };
    let level = if count >= MAPPINGS_WANTED { Level::Ok } else { Level::Warn };
    let fix = format!(
        "`sysctl vm.max_map_count={MAPPINGS_WANTED}`, and in /etc/sysctl.d/, if there are to be many partitions"
    );
    Finding::new("vm.max_map_count", level, format!("{count} mappings"), fix)
        .with(json!({ "mappings": count }))
}

fn cpus() -> Finding {
    let cores = cores();
    let level = if cores >= 4 { Level::Ok } else { Level::Warn };
    let fix =
        "fewer than 4 cores: shards are not pinned and share a core with control; fine for trying it out";
    Finding::new("cpu", level, format!("{cores} cores usable"), fix).with(json!({ "cores": cores }))
}

fn governor(governor: Option<String>) -> Finding {
    match governor {
        None => {
            Finding::new("cpu governor", Level::Ok, "not known here (a virtual machine, most likely)", "")
        }
        Some(name) => {
            let level = if name == "performance" { Level::Ok } else { Level::Warn };
            let fix =
                "`cpupower frequency-set -g performance`: changing clock rates show in the tail latency";
            Finding::new("cpu governor", level, name, fix)
        }
    }
}

fn clock(source: Option<String>) -> Finding {
    let Some(name) = source else {
        return Finding::new("clock source", Level::Ok, "not known here", "");
    };
    // These are read without a system call.
    let fast =
        ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"].contains(&name.as_str());
    let level = if fast { Level::Ok } else { Level::Warn };
    let fix = "every look at this clock is a system call; boot with `clocksource=tsc tsc=reliable` if the CPU has \
        a stable TSC";
    Finding::new("clock source", level, name, fix)
}

fn huge_pages(enabled: Option<String>) -> Finding {
    let chosen = enabled.and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0.to_owned()));
    match chosen.as_deref() {
        None => Finding::new("transparent huge pages", Level::Ok, "not known here", ""),
        Some("always") => Finding::new(
            "transparent huge pages",
            Level::Warn,
            "always",
            "`echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`: compaction of memory stalls threads",
        ),
        Some(other) => Finding::new("transparent huge pages", Level::Ok, other, ""),
    }
}

fn folder_findings(data_dir: &Path) -> Vec<Finding> {
    let Some(dir) = existing(data_dir) else {
        let fix = "give a folder that exists, or one in a folder that exists";
        return vec![Finding::new("data folder", Level::Fail, "there is none, nor one above it", fix)];
    };
    let mut findings = vec![file_system(&dir), free_space(&dir)];
    let measured = open_probe(&dir).and_then(|file| measure(&file));
    match measured {
        Ok(histogram) => {
            findings.push(Finding::new("direct I/O", Level::Ok, "O_DIRECT and O_DSYNC work", ""));
            findings.push(flush_latency(&histogram));
        }
        Err(error) => {
            let fix = match error.raw_os_error() {
                Some(libc::EINVAL | libc::EOPNOTSUPP) => {
                    "use ext4 or XFS: this file system has no direct I/O".into()
                }
                _ => format!("make {} writable for this user: {error}", dir.display()),
            };
            findings.push(Finding::new("direct I/O", Level::Fail, format!("does not work: {error}"), fix));
        }
    }
    findings
}

/// The folder, or the nearest one above it that exists: it will be made there.
fn existing(dir: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(dir).ok()?;
    absolute.ancestors().find(|dir| dir.is_dir()).map(Path::to_path_buf)
}

fn file_system(dir: &Path) -> Finding {
    let canonical = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    let mounts = read("/proc/self/mountinfo").unwrap_or_default();
    let name = file_system_of(&mounts, &canonical).unwrap_or_else(|| "unknown".to_owned());
    let (level, fix) = match name.as_str() {
        "ext4" | "xfs" => (Level::Ok, ""),
        "tmpfs" | "ramfs" => (Level::Fail, "it keeps nothing: choose a folder on a disk with --data-dir"),
        _ => (Level::Warn, "use ext4 or XFS: nothing else was tested"),
    };
    Finding::new("file system", level, format!("{name} at {}", dir.display()), fix)
}

/// The type of the file system that holds `path`: that of the longest mount point above it, the last one there.
fn file_system_of(mountinfo: &str, path: &Path) -> Option<String> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        let kind = after.split(' ').next()?.to_owned();
        path.starts_with(&point).then_some((point.len(), kind))
    });
    // Of equals `max_by_key` gives the last, which is the one mounted over the others.
    mounts.max_by_key(|(len, _)| *len).map(|(_, kind)| kind)
}

fn free_space(dir: &Path) -> Finding {
    let free = match RealDisk::new(dir).free_bytes() {
        Ok(free) => free,
        Err(error) => return Finding::new("free space", Level::Warn, "it cannot be read", error.to_string()),
    };
    let level = match free {
        n if n < FREE_FAIL_BYTES => Level::Fail,
        n if n < FREE_WARN_BYTES => Level::Warn,
        _ => Level::Ok,
    };
    let fix = "make room or choose another disk: a broker that has none left refuses produce";
    let found = format!("{:.1} GiB", free as f64 / f64::from(1 << 30));
    Finding::new("free space", level, found, fix).with(json!({ "free_bytes": free }))
}

/// A file without a name, opened as the write-ahead log is; it is gone with the process, however that ends.
fn open_probe(dir: &Path) -> std::io::Result<fs::File> {
    let flags = libc::O_DIRECT | libc::O_DSYNC;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags | libc::O_TMPFILE).open(dir)?;
    // Blocks that are written for the first time cost more than those of a log in use.
    let fill = AlignedBuffer::zeroed(BLOCK * MEASURE_BLOCKS as usize);
    file.write_all_at(&fill, 0)?;
    Ok(file)
}

/// Writes single blocks, one after the other, each synced, and takes the time of each in microseconds.
fn measure(file: &fs::File) -> std::io::Result<Histogram<u32>> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 2).expect("the bounds are right");
    let block = AlignedBuffer::zeroed(BLOCK);
    let began = monotonic_us();
    let mut now = began;
    let mut at = 0;
    while now - began < MEASURE_US {
        file.write_all_at(&block, at * BLOCK as u64)?;
        at = (at + 1) % MEASURE_BLOCKS;
        let done = monotonic_us();
        histogram.saturating_record((done - now).max(1));
        now = done;
    }
    Ok(histogram)
}

fn flush_latency(histogram: &Histogram<u32>) -> Finding {
    let (p50, p99) = (histogram.value_at_quantile(0.5), histogram.value_at_quantile(0.99));
    let level = if p99 > FLUSH_P99_WARN_US { Level::Warn } else { Level::Ok };
    let fix = "every durable produce waits for this: use an NVMe disk with power-loss protection, and see what else \
        writes to this one";
    let found = format!("4 KiB durable write: p50 {p50} us, p99 {p99} us, max {} us", histogram.max());
    Finding::new("disk flush", level, found, fix)
        .with(json!({ "writes": histogram.len(), "p50_us": p50, "p99_us": p99, "max_us": histogram.max() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_fail_and_odd_names_are_read() {
        for (release, level) in [
            ("6.8.0-45-generic", Level::Ok),
            ("5.11.0", Level::Ok),
            ("5.10.230", Level::Fail),
            ("4.19", Level::Fail),
            ("", Level::Fail),
        ] {
            assert_eq!(kernel(release).level, level, "{release}");
        }
    }

    #[test]
    fn limits_are_read_as_the_kernel_prints_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max locked memory         65536                unlimited            bytes     \n\
            Max open files            1024                 4096                 files     \n";
        assert_eq!(limit(text, "Max locked memory"), Some((65_536, u64::MAX)));
        assert_eq!(limit(text, "Max open files"), Some((1024, 4096)));
        assert_eq!(limit(text, "Max cpu time"), None);
        assert_eq!(open_files(Some((256, 512))).level, Level::Fail);
        assert_eq!(open_files(Some((1024, 4096))).level, Level::Warn);
        assert_eq!(open_files(Some((1024, FILES_WANTED))).level, Level::Ok);
    }

    #[test]
    fn the_mount_that_is_nearest_and_on_top_counts() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /data rw shared:1 - tmpfs none rw\n\
            3 1 8:2 / /data rw - xfs /dev/b rw\n4 1 8:3 / /my\\040disk rw - btrfs /dev/c rw";
        let of = |path: &str| file_system_of(mounts, Path::new(path)).unwrap();
        assert_eq!((of("/data/x"), of("/database")), ("xfs".to_owned(), "ext4".to_owned()));
        assert_eq!(of("/my disk"), "btrfs");
    }

    #[test]
    fn settings_that_hurt_are_warned_about_with_a_fix() {
        for finding in [
            huge_pages(Some("[always] madvise never".into())),
            governor(Some("powersave".into())),
            clock(Some("hpet".into())),
            mappings(Some(65_530)),
        ] {
            assert_eq!(finding.level, Level::Warn, "{finding:?}");
            assert!(!finding.fix.is_empty());
        }
        assert_eq!(huge_pages(Some("always [madvise] never".into())).level, Level::Ok);
    }

    #[test]
    fn the_probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let probe = open_probe(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "it has no name even while it is open");
        drop(probe);
        assert_eq!(existing(&dir.path().join("not/there")).unwrap(), dir.path());
    }
}
