// SPDX-License-Identifier: MIT OR Apache-2.0

//! The file behind a loop device: what sysfs says of it, and `LOOP_GET_STATUS64`, loop(4), which gives its inode.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::Dev;

/// include/uapi/linux/loop.h.
const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;

/// Mirrors `struct loop_info64`; what is not needed has no name.
#[repr(C)]
struct Status {
    device: u64,
    inode: u64,
    _rdevice_to_end: [u64; 27],
}

const _: () = assert!(size_of::<Status>() == 232);

/// The path of the file behind a loop device, as whoever set it up sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackingFile {
    /// It has that name.
    Named(PathBuf),
    /// It has lost that name; it may have others.
    Deleted(PathBuf),
    /// It is longer than the kernel tells, and may be gone or not.
    TooLong,
}

/// What sysfs says of the loop device whose directory there is `device`. `None` where that is no loop
/// device, or no file is set: drivers/block/loop.c, `loop_attr_backing_file_show`.
pub fn backing_file(device: &Path) -> Option<BackingFile> {
    let text = match std::fs::read(device.join("loop/backing_file")) {
        Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => return Some(BackingFile::TooLong),
        text => text.ok()?,
    };
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    let path = |name: &[u8]| PathBuf::from(OsString::from_vec(name.to_vec()));
    Some(match text.strip_suffix(b" (deleted)") {
        Some(name) => BackingFile::Deleted(path(name)),
        None => BackingFile::Named(path(text)),
    })
}

/// Device and inode number of the file behind an opened loop device, as the kernel packs them; `ENXIO`
/// where there is none any more. The kernel asks the file's filesystem, which may not answer.
/// Allocates nothing.
pub fn backing(device: BorrowedFd<'_>) -> Result<[u64; 2], Errno> {
    let mut status = Status { device: 0, inode: 0, _rdevice_to_end: [0; 27] };
    // SAFETY: the call fills one struct loop_info64, which `Status` mirrors.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, &raw mut status) };
    Errno::result(result).map(|_| [status.device, status.inode])
}

/// Takes the device number apart: `new_decode_dev` in `include/linux/kdev_t.h`.
pub fn unpack([device, inode]: [u64; 2]) -> (Dev, u64) {
    let part = |number: u64| u32::try_from(number).unwrap_or(0);
    let minor = part(device & 0xff | device >> 12 & 0x000f_ff00);
    (Dev { major: part(device >> 8 & 0xfff), minor }, inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minors_above_255_lie_above_the_major() {
        assert_eq!(unpack([0x0010_3712, 5]), (Dev { major: 0x37, minor: 0x112 }, 5));
        assert_eq!(unpack([0x701, 5]), (Dev { major: 7, minor: 1 }, 5));
    }
}
