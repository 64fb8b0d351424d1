//! `ioctl_ficlone(2)`: a copy that shares its blocks with the original, at once and
//! without any space.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// Makes `destination`, which has to be open for writing, share all data of `source`. An error where
/// the filesystem cannot do that or where the two are not on the same one: then nothing was changed.
pub fn clone_file(source: BorrowedFd<'_>, destination: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the argument of this ioctl is a descriptor, a plain number.
    let done = unsafe { libc::ioctl(destination.as_raw_fd(), libc::FICLONE, source.as_raw_fd()) };
    Errno::result(done).map(drop)
}
