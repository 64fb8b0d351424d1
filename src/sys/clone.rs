// SPDX-License-Identifier: MIT OR Apache-2.0

//! `ioctl_ficlone(2)`: a copy that shares its blocks with the original, at once and
//! without any space.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// `FS_NOCOW_FL` of include/uapi/linux/fs.h.
const FS_NOCOW_FL: libc::c_int = 0x0080_0000;

/// Makes `destination`, which has to be open for writing, share all data of `source`. An error where
/// the filesystem cannot do that or where the two are not on the same one: then nothing was changed.
pub fn clone_file(source: BorrowedFd<'_>, destination: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the argument of this ioctl is a descriptor, a plain number.
    let done = unsafe { libc::ioctl(destination.as_raw_fd(), libc::FICLONE, source.as_raw_fd()) };
    Errno::result(done).map(drop)
}

/// Makes an empty `destination` overwrite its blocks in place, if `source` does: on btrfs (`chattr +C`, as
/// journals and disk images have it) two files that differ in this share nothing (fs/btrfs/reflink.c,
/// `btrfs_remap_file_range_prep`). False where there is nothing to do.
pub fn take_over_nocow(source: BorrowedFd<'_>, destination: BorrowedFd<'_>) -> Result<bool, Errno> {
    if flags(source)? & FS_NOCOW_FL == 0 {
        return Ok(false);
    }
    let flags = flags(destination)? | FS_NOCOW_FL;
    // SAFETY: the kernel reads one int (ioctl_iflags(2): in spite of the request's name) and keeps no
    // pointer.
    let done = unsafe { libc::ioctl(destination.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) };
    Errno::result(done).map(|_| true)
}

fn flags(file: BorrowedFd<'_>) -> Result<libc::c_int, Errno> {
    // As large as the request's name says, though the kernel writes an int.
    let mut flags: [libc::c_int; 2] = [0; 2];
    // SAFETY: the kernel writes one int, for which there is room.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, flags.as_mut_ptr()) };
    Errno::result(done)?;
    let [flags, _] = flags;
    Ok(flags)
}
