// SPDX-License-Identifier: MIT OR Apache-2.0

//! The descriptors that the program was started with. Rust's runtime opens `/dev/null` in the place of
//! standard streams that are closed, before `main` (library/std/src/sys/pal/unix/mod.rs,
//! `sanitize_standard_fds`): later they look like any other stream, and what is written to them is lost.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

/// A bit for each of the descriptors 0, 1 and 2.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Runs `record` before `main` and before Rust's runtime: the dynamic linker and the C library call what
/// this section lists (System V ABI, "Initialization and Termination Functions").
#[used]
// SAFETY: the section holds pointers to functions that take what they are given and return.
#[unsafe(link_section = ".init_array")]
static RECORD: extern "C" fn() = record;

extern "C" fn record() {
    for stream in libc::STDIN_FILENO..=libc::STDERR_FILENO {
        // SAFETY: takes numbers only. Nothing here needs the runtime.
        if unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << stream, Ordering::Relaxed);
        }
    }
}

fn was_closed(descriptor: RawFd) -> bool {
    (libc::STDIN_FILENO..=libc::STDERR_FILENO).contains(&descriptor)
        && CLOSED.load(Ordering::Relaxed) & (1 << descriptor) != 0
}

/// A copy of a descriptor that the program was started with, open for writing, which leads to the same.
/// `EBADF` where there was none, or not for writing.
pub fn inherited_for_writing(number: RawFd) -> Result<OwnedFd, Errno> {
    if number < 0 || was_closed(number) {
        return Err(Errno::EBADF);
    }
    // SAFETY: it is only asked about and copied: if it is not open, all of that fails with EBADF.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL)?);
    let own = FdFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFD)?);
    let for_writing = matches!(flags & OFlag::O_ACCMODE, OFlag::O_WRONLY | OFlag::O_RDWR);
    // What was inherited through execve(2) is not closed by it; what this process opens is.
    if !for_writing || flags.contains(OFlag::O_PATH) || own.contains(FdFlag::FD_CLOEXEC) {
        return Err(Errno::EBADF);
    }
    let copy = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(libc::STDERR_FILENO + 1))?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
