// SPDX-License-Identifier: MIT OR Apache-2.0

//! The inodes without a name, opened and looked at by the handles that a driver lists.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, readlinkat};

use super::Unable;
use super::driver::Mounted;
use crate::model::last_name::LastName;
use crate::model::skips::{Kind, Skip};
use crate::mounts::Mount;
use crate::sys::handle::Handle;
use crate::sys::stat::{Stat, statx_fd};

/// An inode without a name, as the filesystem itself lists it.
#[derive(Clone, Debug)]
pub struct Unlinked {
    /// What the kernel says of it; the bytes include those that are not written out yet.
    pub stat: Stat,
    /// Its last name; not told where nobody has it open, or the mount does not show its directory.
    pub name: LastName,
}

/// What the filesystem keeps of inodes without a name.
#[derive(Clone, Debug)]
pub enum Listing {
    /// All of them, each once, but for damaged ones.
    Kept {
        /// Those that the kernel knows.
        unlinked: Vec<Unlinked>,
        /// Those that are damaged, of which some may have a name.
        damaged: Vec<Damaged>,
        /// How many subvolumes are deleted and still take up space. Their files are in no list.
        deleted_subvolumes: usize,
    },
    /// No such list is kept here: tmpfs, unknown filesystems.
    NotKept,
}

/// An inode on which the kernel answers that it is damaged, or would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its number.
    pub inode: u64,
    /// What the kernel answers.
    pub errno: Errno,
}

impl Damaged {
    /// As it is told: no name of it is known.
    pub fn skip(self, mountpoint: &Path) -> Skip {
        Skip::new(Kind::Inode, mountpoint, self.errno).of_inode(self.inode)
    }
}

/// What a filesystem lists.
#[derive(Debug, Default)]
pub(super) struct Handles {
    /// Of inodes without a name; some of them may have one, or be gone.
    pub(super) all: Vec<Handle>,
    /// Inodes that are damaged, of which some may have a name.
    pub(super) damaged: Vec<Damaged>,
    /// How many subvolumes are deleted and still there.
    pub(super) deleted_subvolumes: usize,
}

/// Looks at each of the inodes.
pub(super) fn list(handles: Handles, on: Mounted<'_>) -> Result<Listing, Unable> {
    let Handles { all, damaged, deleted_subvolumes } = handles;
    let root = on.reopen().map_err(Unable::Refused)?;
    let looked = all.iter().map(|handle| look(handle, on.mount, root.as_fd()));
    let found = looked.filter_map(|looked| looked.map(|found| Some(found?.1)).transpose());
    let unlinked = found.collect::<Result<_, Errno>>().map_err(Unable::Refused)?;
    Ok(Listing::Kept { unlinked, damaged, deleted_subvolumes })
}

/// Opens those that have this number.
pub(super) fn open(
    handles: &Handles,
    on: Mounted<'_>,
    inode: u64,
) -> Result<Vec<(OwnedFd, Unlinked)>, Unable> {
    let root = on.reopen().map_err(Unable::Refused)?;
    let looked = handles.all.iter().map(|handle| look(handle, on.mount, root.as_fd()));
    let wanted = |looked: &Result<Option<(OwnedFd, Unlinked)>, Errno>| match looked {
        Ok(found) => found.as_ref().is_some_and(|(_, found)| found.stat.inode == inode),
        Err(_) => true,
    };
    looked.filter(wanted).filter_map(Result::transpose).collect::<Result<_, Errno>>().map_err(Unable::Refused)
}

/// Looks at an inode; `None` if it is not there any more or has a name.
fn look(handle: &Handle, mount: &Mount, root: BorrowedFd<'_>) -> Result<Option<(OwnedFd, Unlinked)>, Errno> {
    let inode = match open_when_known(handle, root) {
        Ok(inode) => inode,
        // Freed since it was listed.
        Err(Errno::ESTALE) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let stat = statx_fd(inode.as_fd())?;
    if stat.links > 0 {
        // Listed for another reason, or linked again: open(2), O_TMPFILE.
        return Ok(None);
    }
    let name = last_name(inode.as_fd(), &stat, mount);
    Ok(Some((inode, Unlinked { stat, name })))
}

/// A handle whose inode number is just being given to a new file is answered with `ENOMEM`:
/// `iget_locked` (fs/inode.c) finds the inode marked `I_CREATING` and returns nothing, which ext4 and
/// btrfs take for a lack of memory. Soon it is known to be another's.
fn open_when_known(handle: &Handle, root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const TRIES: u32 = 50;
    for _ in 1..TRIES {
        match handle.open(root) {
            Err(Errno::ENOMEM) => sleep(Duration::from_millis(1)),
            opened => return opened,
        }
    }
    handle.open(root)
}

/// The 32-bit words of a number as they follow each other in memory.
pub(super) fn words(number: u64) -> [u32; 2] {
    let halves = number.to_ne_bytes();
    let (words, _) = halves.as_chunks();
    std::array::from_fn(|index| words.get(index).copied().map_or(0, u32::from_ne_bytes))
}

/// The name that an opened inode without name last had.
fn last_name(inode: BorrowedFd<'_>, stat: &Stat, mount: &Mount) -> LastName {
    let link = format!("/proc/self/fd/{}", inode.as_raw_fd());
    former(readlinkat(AT_FDCWD, link.as_str()), stat.inode, mount)
}

fn former(link: Result<OsString, Errno>, inode: u64, mount: &Mount) -> LastName {
    // Without the suffix it is not a name, but what stands in for an unknown one: "/".
    if link.as_ref().is_ok_and(|link| !link.as_bytes().ends_with(b" (deleted)")) {
        return LastName::NotTold;
    }
    // Where a mount shows a part of the filesystem only, the path of what is outside of it begins at
    // the filesystem's root (fs/d_path.c, `prepend_path`), and would be taken for another file's.
    let is_shown = |path: &Path| mount.root == Path::new("/") || path.starts_with(&mount.mountpoint);
    match LastName::of_link(link.map(PathBuf::from), inode) {
        LastName::Told(path) if !is_shown(&path) => LastName::NotTold,
        name => name,
    }
}
