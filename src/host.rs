//! What a broker needs of its host, checked at start: each finding is one line that says what to change.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Locked memory that one executor's rings need (kernels before 5.12 charge them to RLIMIT_MEMLOCK).
pub const LOCKED_BYTES_PER_EXECUTOR: u64 = 512 << 10;
/// File descriptors that a broker needs beside those of clients: WAL files, segments being written and read.
pub const FILES_MIN: u64 = 1024;
/// Magic numbers of file systems that keep nothing.
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;

/// Raises a soft limit to its hard limit and returns it.
fn raise(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is plain data that the call fills.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid value for the same resource.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Checks the process's limits and that io_uring may be used by `executors` executors.
///
/// # Errors
/// The first finding.
pub fn check_process(executors: u64) -> Result<(), String> {
    let files =
        raise(libc::RLIMIT_NOFILE).map_err(|e| format!("reading the limit of open files failed: {e}"))?;
    if files < FILES_MIN {
        return Err(format!(
            "only {files} files may be open, at least {FILES_MIN} are needed: raise it with `ulimit -n` or \
             LimitNOFILE= in the service unit"
        ));
    }
    let locked =
        raise(libc::RLIMIT_MEMLOCK).map_err(|e| format!("reading the limit of locked memory failed: {e}"))?;
    let needed = executors * LOCKED_BYTES_PER_EXECUTOR;
    if locked < needed && !is_privileged() {
        return Err(format!(
            "only {} KiB of memory may be locked, {executors} executors need {} KiB: raise it with `ulimit -l` or \
             LimitMEMLOCK= in the service unit",
            locked / 1024,
            needed / 1024
        ));
    }
    check_io_uring()
}

/// Whether limits of locked memory do not bind this process.
pub fn is_privileged() -> bool {
    // SAFETY: a system call without arguments that cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Tries to make a ring.
///
/// # Errors
/// One line that says what to change.
pub fn check_io_uring() -> Result<(), String> {
    // struct io_uring_params: 120 bytes, zero means no option.
    let mut params = [0u64; 15];
    // SAFETY: the kernel writes at most the 120 bytes of the structure.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, params.as_mut_ptr()) };
    if fd >= 0 {
        // SAFETY: the descriptor was just made and belongs to nobody else.
        unsafe { libc::close(i32::try_from(fd).expect("a descriptor is small")) };
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring: Linux 5.14 or newer is needed".to_owned(),
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is blocked: allow it in the container's seccomp profile, and set \
             `sysctl kernel.io_uring_disabled=0`"
                .to_owned()
        }
        _ => format!("io_uring cannot be set up: {error}"),
    })
}

/// Checks that the data folder's file system keeps what is synced and takes direct I/O.
///
/// # Errors
/// The first finding.
pub fn check_data_dir(dir: &Path) -> Result<(), String> {
    let path = CString::new(dir.as_os_str().as_bytes())
        .map_err(|_| "the data folder's name is not usable".to_owned())?;
    // SAFETY: `stat` is plain data that the call fills; the path is a C string that lives across it.
    let kind = unsafe {
        let mut stat: libc::statfs = std::mem::zeroed();
        if libc::statfs(path.as_ptr(), &raw mut stat) != 0 {
            return Err(format!("{}: {}", dir.display(), io::Error::last_os_error()));
        }
        stat.f_type
    };
    if kind == TMPFS || kind == RAMFS {
        return Err(format!(
            "{} is on a file system in memory, which keeps nothing: choose a folder on a disk with --data-dir",
            dir.display()
        ));
    }
    check_direct_io(dir)
}

fn check_direct_io(dir: &Path) -> Result<(), String> {
    use std::os::unix::fs::OpenOptionsExt;
    let probe = dir.join(".direct-io-probe");
    let opened = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
        .open(&probe);
    let _ = std::fs::remove_file(&probe);
    match opened {
        Ok(_) => Ok(()),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Err(format!(
            "{} is on a file system without direct I/O (O_DIRECT): use ext4 or XFS",
            dir.display()
        )),
        Err(e) => Err(format!("{} cannot be written: {e}", dir.display())),
    }
}

/// Bytes of the file system that holds `dir`.
pub fn file_system_bytes(dir: &Path) -> Option<u64> {
    let path = CString::new(dir.as_os_str().as_bytes()).ok()?;
    // SAFETY: `stat` is plain data that the call fills; the path is a C string that lives across it.
    unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &raw mut stat) == 0).then(|| stat.f_blocks * stat.f_frsize)
    }
}

/// Takes the data folder's lock, which goes with the process. The file stays open as long as the value lives.
///
/// # Errors
/// Another process has it.
pub fn lock(dir: &Path) -> Result<std::fs::File, String> {
    let path = dir.join("LOCK");
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| format!("{}: {e}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(format!(
            "{} is in use by another ringlog process: stop that one, or choose another --data-dir",
            dir.display()
        )),
        Err(std::fs::TryLockError::Error(e)) => Err(format!("{} cannot be locked: {e}", path.display())),
    }
}
