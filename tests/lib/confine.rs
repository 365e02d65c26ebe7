//! Puts a child process under the limits that a container or a service unit might: what the broker needs of its
//! host is then missing.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lowers a limit of the child, soft and hard.
pub fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, value: u64) {
    let set = move || {
        let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
        // SAFETY: `limit` is plain data that lives across the call.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only an async-signal-safe system call is made.
    unsafe { command.pre_exec(set) };
}

/// Refuses the child `io_uring_setup`, as Docker's default seccomp profile does (EPERM).
pub fn block_io_uring(command: &mut Command) {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS: the number of the system call, at offset 0
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let setup = u32::try_from(libc::SYS_io_uring_setup).expect("system calls have small numbers");
    let eperm = u32::try_from(libc::EPERM).expect("errors have small numbers");
    let mut program = [
        step(LOAD, 0, 0, 0),
        step(JUMP_EQUAL, 0, 1, setup),
        step(RETURN, 0, 0, ERRNO | eperm),
        step(RETURN, 0, 0, ALLOW),
    ];
    let set = move || {
        let filter = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
        // SAFETY: `filter` points at a program of its length, both live across the calls; the rest are numbers.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
        };
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec only async-signal-safe system calls are made.
    unsafe { command.pre_exec(set) };
}
