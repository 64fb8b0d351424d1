// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where a file is written: a directory that is found once, without following a link that somebody else
//! could have made, and kept open. Everything that is done there goes through that descriptor.

pub mod abandoned;
mod lookup;
mod temporary;

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

pub use lookup::{Found, LastLink, find};
pub use temporary::Temporary;

/// A directory, open with `O_PATH`.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    /// As it was given, for people.
    path: PathBuf,
    trust: Trust,
}

/// Who, besides the caller and root, can change what a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Nobody.
    Full,
    /// Others can add names to the directory, but cannot take away or rename those of trusted owners: it is
    /// sticky, inode(7).
    Sticky,
    /// Anybody.
    None,
}

impl Directory {
    /// The directory's path as it was given, for people.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether only the caller and root can change what is in it and what its path leads to.
    pub fn is_trusted(&self) -> bool {
        self.trust == Trust::Full
    }

    /// What is there under this name, if anything is. A link is not followed.
    pub fn look(&self, name: &OsStr) -> Result<Option<FileStat>, Errno> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Takes a name away.
    pub fn remove(&self, name: &OsStr) -> Result<(), Errno> {
        unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The file type, one of `libc::S_IFREG`, `libc::S_IFLNK`, ...
pub fn file_type(stat: &FileStat) -> libc::mode_t {
    stat.st_mode & libc::S_IFMT
}

/// Returns whether the file is the caller's or root's.
fn is_owner_trusted(stat: &FileStat) -> bool {
    stat.st_uid == 0 || stat.st_uid == geteuid().as_raw()
}

/// Who can put something into the directory, besides the caller and root. The group's bits are also the
/// limit of what an access control list grants, acl(5). An ordinary user's own directory may be writable
/// for the user's own group, as it is where each user has one.
fn trust(stat: &FileStat) -> Trust {
    let (user, group) = (geteuid(), nix::unistd::getegid());
    let by_own_group = !user.is_root() && stat.st_uid == user.as_raw() && stat.st_gid == group.as_raw();
    let by_others = if by_own_group { libc::S_IWOTH } else { libc::S_IWGRP | libc::S_IWOTH };
    if !is_owner_trusted(stat) {
        Trust::None
    } else if stat.st_mode & by_others == 0 {
        Trust::Full
    } else if stat.st_mode & libc::S_ISVTX != 0 {
        Trust::Sticky
    } else {
        Trust::None
    }
}
