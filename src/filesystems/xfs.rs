// SPDX-License-Identifier: MIT OR Apache-2.0

//! XFS: bulkstat tells of every inode, live from memory, those without a name included. What is on
//! the disk (the unlinked lists of the allocation groups) lags behind: XFS keeps its metadata in a
//! cache of its own.

use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::driver::{Driver, Geometry, MemberDevice, Mounted};
use super::unlinked::{Damaged, Handles, words};
use super::{Unable, limits};
use crate::model::bytes::Bytes;
use crate::model::ledger::Term;
use crate::model::limits::Limits;
use crate::model::traits::{Command, Tools, Traits};
use crate::mounts::Mount;
use crate::sys::handle::Handle;
use crate::sys::thread::spawn_scoped;
use crate::sys::{bulkstat, xfs_geometry};

/// `FILEID_INO32_GEN | XFS_FILEID_TYPE_64FLAG` (`fs/xfs/xfs_export.h`): a 64-bit inode number, then
/// the generation.
const INODE_AND_GENERATION: libc::c_int = 0x81;

/// The driver.
pub(super) struct Xfs;

impl Driver for Xfs {
    fn serves(&self, fstype: &str) -> bool {
        fstype == "xfs"
    }

    fn traits(&self, _fstype: &str) -> Traits {
        Traits {
            shared_extents: true,
            one_superblock_per_device: true,
            tools: Tools {
                check: Some(Command("xfs_repair -n {device}")),
                repair: Some(Command("xfs_repair {device}")),
                // fsck.xfs(8) calls xfs_repair then.
                is_repaired_at_boot: true,
                grow: Some(Command("xfs_growfs {mountpoint}")),
                ..Tools::default()
            },
            ..Traits::default()
        }
    }

    fn handles(&self, on: Mounted<'_>) -> Result<Option<Handles>, Unable> {
        let root = on.reopen().map_err(Unable::Refused)?;
        handles(root.as_fd()).map(Some).map_err(Unable::Refused)
    }

    fn limits(&self, on: Mounted<'_>, timeout: Duration) -> Limits {
        let geometry = on.reopen().and_then(|root| geometry(on.mount, root.as_fd()));
        limits::read(on, geometry.as_ref().ok(), timeout)
    }
}

/// Handles of all inodes without a name. The allocation groups are read side by side: each has its
/// own locks, so one does not wait for another.
fn handles(root: BorrowedFd<'_>) -> Result<Handles, Errno> {
    let next = AtomicU32::new(0);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let read = || groups(root, &next);
        // Those that cannot be started are not missed: the others take their groups.
        let others: Vec<_> =
            (1..threads).filter_map(|_| spawn_scoped(scope, "bulkstat", read).ok()).collect();
        let mut handles = read()?;
        for other in others {
            let Handles { all, damaged, .. } = other.join().unwrap_or(Err(Errno::EIO))?;
            handles.all.extend(all);
            handles.damaged.extend(damaged);
        }
        Ok(handles)
    })
}

/// Reads groups until there is no `next` one.
fn groups(root: BorrowedFd<'_>, next: &AtomicU32) -> Result<Handles, Errno> {
    let mut handles = Handles::default();
    loop {
        let group = next.fetch_add(1, Ordering::Relaxed);
        let each = |inode: bulkstat::Inode| {
            if inode.links == 0 {
                let [first, second] = words(inode.number);
                handles.all.push(Handle::new(INODE_AND_GENERATION, &[first, second, inode.generation]));
            }
        };
        let damaged = |inode, errno| handles.damaged.push(Damaged { inode, errno });
        if !bulkstat::inodes(root, group, each, damaged)? {
            return Ok(handles);
        }
    }
}

/// How large the filesystem is made. `df` leaves out the log (`xfs_fs_statfs`, `fs/xfs/xfs_super.c`).
fn geometry(mount: &Mount, root: BorrowedFd<'_>) -> Result<Geometry, Errno> {
    let size = xfs_geometry::size(root)?;
    let device = MemberDevice { dev: Some(mount.dev), number: 1, size: Bytes(size.data) };
    let log = Term { name: "log", bytes: Bytes(size.log) };
    Ok(Geometry { devices: vec![device], uncounted: Some(vec![log]) })
}
