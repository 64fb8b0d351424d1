//! `pidfd_open(2)` and `pidfd_getfd(2)`: a copy of a descriptor that another process has, which refers to
//! the same open file. Both need Linux 5.6.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// A descriptor of the process itself, which no reuse of its number can lead astray.
pub fn open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes two numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// A copy of descriptor `number` of that process. Needs the right to trace it: `EPERM`.
pub fn get(pidfd: BorrowedFd<'_>, number: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes three numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })
}

fn owned(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = i32::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just given us this descriptor, with O_CLOEXEC.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
