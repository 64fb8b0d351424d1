// SPDX-License-Identifier: MIT OR Apache-2.0

//! Unmounts by system call, also in a mount namespace that a user has made. No program is run there: what
//! stands at the path of `umount` in it may be the user's.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;
use nix::unistd::fchdir;

use super::{Given, send_ahead};
use crate::sys::Dev;
use crate::sys::message::Found;
use crate::sys::stat::statx_fd;

/// A mount, and all by which it is known.
#[derive(Clone, Debug)]
pub struct Spot {
    /// The directory that its mount point is in, from the root of its namespace.
    pub directory: CString,
    /// The last name of its mount point.
    pub name: CString,
    /// Its number, as in mountinfo.
    pub mount: u64,
    /// Device and inode number of its root.
    pub root: (Dev, u64),
}

/// Unmounts what is mounted there, in the mount namespace that `namespace` leads to (`CAP_SYS_ADMIN`,
/// `CAP_SYS_CHROOT`) or in this process's own; `EBUSY` while somebody uses it, `ESTALE` where it is no longer
/// that mount. No link is followed on the way.
///
/// Whoever may mount there can still exchange the mount between the look and the call, and so has another
/// one of that namespace's unmounted that he might have unmounted himself: what he may not unmount is locked
/// there, to root, too (fs/namespace.c, `MNT_LOCKED` in `can_umount`).
pub fn unmount(namespace: Option<BorrowedFd<'_>>, spot: &Spot, timeout: Duration) -> Result<(), Errno> {
    let look = |_| {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(flags | OFlag::O_DIRECTORY).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        let directory = openat2(AT_FDCWD, spot.directory.as_c_str(), how)?;
        let found = openat(&directory, spot.name.as_c_str(), flags | OFlag::O_NOFOLLOW, Mode::empty())?;
        let stat = statx_fd(found.as_fd())?;
        // It would keep the mount in use.
        drop(found);
        if stat.mount != Some(spot.mount) || stat.identity() != spot.root {
            return Err(Errno::ESTALE);
        }
        fchdir(&directory)?;
        // SAFETY: the name is terminated and lives through the call.
        Errno::result(unsafe { libc::umount2(spot.name.as_ptr(), libc::UMOUNT_NOFOLLOW) })?;
        Ok(Found::default())
    };
    let given = namespace.map_or(Given::Nothing, Given::Namespace);
    let answers = send_ahead(1, given, timeout, look)?;
    answers.into_iter().next().unwrap_or(Err(Errno::ECHILD)).map(drop)
}
