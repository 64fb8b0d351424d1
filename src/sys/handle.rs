// SPDX-License-Identifier: MIT OR Apache-2.0

//! `open_by_handle_at(2)`: an inode by its number, without any name that leads to it.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// The longest handle that is made here: btrfs's.
const LONGEST: usize = 20;

/// Mirrors `struct file_handle` (include/linux/fs.h) with room for the handle.
#[repr(C)]
struct FileHandle {
    handle_bytes: libc::c_uint,
    handle_type: libc::c_int,
    handle: [u8; LONGEST],
}

/// What NFS would be given to find an inode again: its number and generation, packed as the
/// filesystem wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    kind: libc::c_int,
    bytes: Vec<u8>,
}

impl Handle {
    /// A handle of that type from its 32-bit words.
    pub fn new(kind: libc::c_int, words: &[u32]) -> Self {
        Self { kind, bytes: words.iter().flat_map(|word| word.to_ne_bytes()).collect() }
    }

    /// Opens the inode with `O_PATH`: no right on the file, no lease broken, no device or FIFO opened.
    /// `mount` is any descriptor of the filesystem but one opened with `O_PATH`. Needs
    /// `CAP_DAC_READ_SEARCH`; `ESTALE`: there is no such inode any more.
    pub fn open(&self, mount: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let mut raw = FileHandle {
            handle_bytes: libc::c_uint::try_from(self.bytes.len()).map_err(|_| Errno::EOVERFLOW)?,
            handle_type: self.kind,
            handle: [0; LONGEST],
        };
        raw.handle.get_mut(..self.bytes.len()).ok_or(Errno::EOVERFLOW)?.copy_from_slice(&self.bytes);
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        // SAFETY: `raw` lives through the call, and says how much of its handle is filled.
        let fd =
            unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw const raw, flags) };
        let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just given us this descriptor.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
