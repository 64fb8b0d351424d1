// SPDX-License-Identifier: MIT OR Apache-2.0

//! `renameat2(2)` with `RENAME_NOREPLACE`, which not every C library wraps.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// Renames a file within `directory`. `EEXIST` where the new name is taken, `EINVAL` where the filesystem
/// cannot tell.
pub fn without_replacing(directory: BorrowedFd<'_>, from: &CStr, to: &CStr) -> Result<(), Errno> {
    let (at, flags) = (directory.as_raw_fd(), libc::RENAME_NOREPLACE);
    // SAFETY: both names end with a NUL and live through the call.
    let done = unsafe { libc::syscall(libc::SYS_renameat2, at, from.as_ptr(), at, to.as_ptr(), flags) };
    Errno::result(done).map(drop)
}
