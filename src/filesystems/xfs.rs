//! XFS: bulkstat tells of every inode, live from memory, those without a name included. What is on
//! the disk (the unlinked lists of the allocation groups) lags behind: XFS keeps its metadata in a
//! cache of its own.

use std::num::NonZero;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::errno::Errno;

use super::{Damaged, Geometry, Handles, Part};
use crate::model::bytes::Bytes;
use crate::model::ledger::Term;
use crate::mounts::Mount;
use crate::sys::handle::Handle;
use crate::sys::thread::spawn_scoped;
use crate::sys::{bulkstat, xfs_geometry};

/// `FILEID_INO32_GEN | XFS_FILEID_TYPE_64FLAG` (`fs/xfs/xfs_export.h`): a 64-bit inode number, then
/// the generation.
const INODE_AND_GENERATION: libc::c_int = 0x81;

/// Handles of all inodes without a name. The allocation groups are read side by side: each has its
/// own locks, so one does not wait for another.
pub(super) fn handles(root: BorrowedFd<'_>) -> Result<Handles, Errno> {
    let next = AtomicU32::new(0);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let read = || groups(root, &next);
        // Those that cannot be started are not missed: the others take their groups.
        let others: Vec<_> =
            (1..threads).filter_map(|_| spawn_scoped(scope, "bulkstat", read).ok()).collect();
        let mut handles = read()?;
        for other in others {
            let Handles { all, damaged } = other.join().unwrap_or(Err(Errno::EIO))?;
            handles.all.extend(all);
            handles.damaged.extend(damaged);
        }
        Ok(handles)
    })
}

/// Reads groups until there is no `next` one.
fn groups(root: BorrowedFd<'_>, next: &AtomicU32) -> Result<Handles, Errno> {
    let mut handles = Handles { all: Vec::new(), damaged: Vec::new() };
    loop {
        let group = next.fetch_add(1, Ordering::Relaxed);
        let each = |inode: bulkstat::Inode| {
            if inode.links == 0 {
                let [first, second] = super::words(inode.number);
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
pub(super) fn geometry(mount: &Mount, root: BorrowedFd<'_>) -> Result<Geometry, Errno> {
    let size = xfs_geometry::size(root)?;
    let part = Part { dev: Some(mount.dev), number: 1, size: Bytes(size.data) };
    let log = Term { name: "log", bytes: Bytes(size.log) };
    Ok(Geometry { parts: vec![part], uncounted: Some(vec![log]), ..Geometry::default() })
}
