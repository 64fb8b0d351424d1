// SPDX-License-Identifier: MIT OR Apache-2.0

//! What each filesystem's driver answers. Everything that depends on the type of a filesystem is behind this
//! trait: a driver implements what its filesystem can do, and the rest answers that it cannot.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::unlinked::{self, Damaged, Handles, Listing, Unlinked};
use super::{Unable, limits};
use crate::model::bytes::Bytes;
use crate::model::ledger::Term;
use crate::model::limits::Limits;
use crate::model::monitor::Monitor;
use crate::model::traits::Traits;
use crate::model::usage::{Census, MountPoint, Options, Tally};
use crate::mounts::Mount;
use crate::sys::Dev;

/// A driver for one or several types of filesystems. Asking changes nothing on the filesystem. Every call
/// may wait for a disk that does not answer, or for a large file that is just being freed: the caller sets
/// the deadline.
pub(super) trait Driver: Sync {
    /// Whether it is the driver for that type, as `proc_pid_mountinfo(5)` names it.
    fn serves(&self, fstype: &str) -> bool;

    /// What sets that type apart.
    fn traits(&self, fstype: &str) -> Traits;

    /// Handles of all inodes without a name; `None` where the filesystem keeps no list of them.
    fn handles(&self, _on: Mounted<'_>) -> Result<Option<Handles>, Unable> {
        Ok(None)
    }

    /// All inodes without a name.
    fn unlinked(&self, on: Mounted<'_>) -> Result<Listing, Unable> {
        match self.handles(on)? {
            Some(handles) => unlinked::list(handles, on),
            None => Ok(Listing::NotKept),
        }
    }

    /// Those of them that have this number, opened with `O_PATH`: no right on the file, and it stays that
    /// very inode. More than one only where there are subvolumes; `None` where no list is kept.
    fn open_unlinked(&self, on: Mounted<'_>, inode: u64) -> Result<Option<Vec<(OwnedFd, Unlinked)>>, Unable> {
        self.handles(on)?.map(|handles| unlinked::open(&handles, on, inode)).transpose()
    }

    /// All that lies below the root of the mount, read from the filesystem's own records: the same that a
    /// walk through all names would find, without what lies on other filesystems.
    fn census(&self, on: Mounted<'_>, _request: &Request<'_>) -> Result<(Census, Internal), Unable> {
        Err(Unable::Filesystem(on.mount.fstype.clone()))
    }

    /// What the filesystem needs besides what its files take up.
    fn internal(&self, on: Mounted<'_>, _request: &Request<'_>) -> Result<Internal, Unable> {
        Err(Unable::Filesystem(on.mount.fstype.clone()))
    }

    /// Whether `census` would miss data that is in memory only.
    fn lags(&self, _mount: &Mount) -> bool {
        false
    }

    /// What limits it besides its bytes. May wait up to half of `timeout` for a user database, and up to
    /// `timeout` for the filesystem that an image lies on.
    fn limits(&self, on: Mounted<'_>, timeout: Duration) -> Limits {
        limits::read(on, None, timeout)
    }

    /// How many errors the filesystem has noted since it was last repaired, where it says so.
    fn errors(&self, _mount: &Mount) -> Option<u64> {
        None
    }
}

/// A mounted filesystem.
#[derive(Clone, Copy, Debug)]
pub struct Mounted<'a> {
    /// Where and how it is mounted.
    pub mount: &'a Mount,
    /// The root of that mount; `O_PATH` is enough.
    pub root: BorrowedFd<'a>,
}

impl Mounted<'_> {
    /// The root, opened for reading: `ioctl(2)` and `open_by_handle_at(2)` take no `O_PATH` descriptor.
    pub(super) fn reopen(self) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(self.root.as_fd(), c".", flags, Mode::empty())
    }
}

/// What is to be read from a filesystem's own records.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What is mounted on it.
    pub mount_points: &'a [MountPoint<'a>],
    /// What is kept of what is found.
    pub options: Options<'a>,
    /// Shows how far it is and can end it early.
    pub monitor: &'a Monitor,
}

/// What a filesystem needs besides what its files take up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Internal {
    /// What it keeps for itself.
    pub metadata: Vec<Term>,
    /// What files report and share with other files, or do not take up.
    pub shared: Vec<Term>,
    /// What has been promised to data that is still in memory only. Files report it; what is read
    /// from below does not have it.
    pub delayed: Bytes,
    /// Inodes that are in use and have no name, with what they take up.
    pub nameless: Vec<(u64, Bytes)>,
    /// All those that have one, by their own count of links.
    pub named: Tally,
    /// Why the kernel did not confine the threads that read this, where it did not.
    pub unconfined: Option<Errno>,
    /// Damaged inodes. They are in none of the above.
    pub damaged: Vec<Damaged>,
}

/// How a filesystem is made, by its own records.
#[derive(Clone, Debug, Default)]
pub(super) struct Geometry {
    /// The devices that it is on.
    pub(super) devices: Vec<MemberDevice>,
    /// What it takes up and `df` leaves out of its size; `None` where that is not known in full.
    pub(super) uncounted: Option<Vec<Term>>,
}

/// A device, as the filesystem on it sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemberDevice {
    /// Which; `None` where its node cannot be found.
    pub(super) dev: Option<Dev>,
    /// Its number within the filesystem.
    pub(super) number: u64,
    /// How much of it the filesystem takes up.
    pub(super) size: Bytes,
}
