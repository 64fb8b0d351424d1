// SPDX-License-Identifier: MIT OR Apache-2.0

//! `pidfd_open(2)` and `pidfd_getfd(2)`, Linux 5.6: a process that stays the same though its number may
//! be given to another, and its descriptors.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// `PIDFD_THREAD` of include/uapi/linux/pidfd.h, Linux 6.9.
const PIDFD_THREAD: libc::c_int = libc::O_EXCL;

/// Refers to the process or, from Linux 6.9 on, to the single thread with that number. Readable
/// (poll(2)) once it has ended.
pub fn open(pid: i32) -> Result<OwnedFd, Errno> {
    match open_with(pid, 0) {
        // Not the number of a process: EINVAL, since Linux 6.15 ENOENT.
        Err(Errno::EINVAL | Errno::ENOENT) => open_with(pid, PIDFD_THREAD),
        result => result,
    }
}

fn open_with(pid: i32, flags: libc::c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) };
    owned(fd)
}

/// A duplicate of the process's descriptor `number`: the same open file description, with its offset and
/// its flags. Needs the rights of ptrace(2).
pub fn get(pidfd: BorrowedFd<'_>, number: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    owned(fd)
}

fn owned(fd: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just given us this descriptor; both calls set close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
