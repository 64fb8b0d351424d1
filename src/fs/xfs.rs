//! XFS: bulkstat tells of every inode, live from memory, those without a name included. What is on
//! the disk (the unlinked lists of the allocation groups) lags behind: XFS keeps its metadata in a
//! cache of its own.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use crate::sys::bulkstat;
use crate::sys::handle::Handle;

/// `FILEID_INO32_GEN | XFS_FILEID_TYPE_64FLAG` (`fs/xfs/xfs_export.h`): a 64-bit inode number, then
/// the generation.
const INODE_AND_GENERATION: libc::c_int = 0x81;

/// Handles of all inodes without a name.
pub(super) fn handles(root: BorrowedFd<'_>) -> Result<Vec<Handle>, Errno> {
    let mut handles = Vec::new();
    bulkstat::inodes(root, |inode| {
        if inode.links == 0 {
            let [first, second] = super::words(inode.number);
            handles.push(Handle::new(INODE_AND_GENERATION, &[first, second, inode.generation]));
        }
    })?;
    Ok(handles)
}
