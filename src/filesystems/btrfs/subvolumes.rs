// SPDX-License-Identifier: MIT OR Apache-2.0

//! Every subvolume's tree notes its orphans. The search sees the running transaction
//! (`btrfs_search_forward` begins at the tree's newest root), so nothing has to be synced.
//!
//! Files of deleted subvolumes that are still held are not in it: the subvolumes can be counted, but their
//! trees cannot be searched any more. What would come free with one is not recorded anywhere, as its
//! extents may be shared.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use crate::filesystems::unlinked::{Handles, words};
use crate::sys::handle::Handle;
use crate::sys::tree_search::{Key, items};

/// Trees, objects and item types: `include/uapi/linux/btrfs_tree.h`.
const ROOT_TREE: u64 = 1;
const TOP_LEVEL: u64 = 5;
pub(super) const FIRST_FREE_OBJECTID: u64 = 256;
const LAST_FREE_OBJECTID: u64 = u64::MAX - 255;
const ORPHANS: u64 = u64::MAX - 4;
const INODE_ITEM: u8 = 1;
const ORPHAN_ITEM: u8 = 48;
const ROOT_ITEM: u8 = 132;
/// `refs` of `struct btrfs_root_item`.
const REFERENCES: usize = 216;

/// `FILEID_BTRFS_WITHOUT_PARENT` of include/linux/exportfs.h: inode, subvolume, generation.
const INODE_AND_SUBVOLUME: libc::c_int = 0x4d;

/// Handles of all orphans, in all subvolumes, and how many subvolumes are deleted and still there.
pub(super) fn handles(root: BorrowedFd<'_>) -> Result<Handles, Errno> {
    let mut all = Vec::new();
    for subvolume in subvolumes(root)? {
        match orphans(root, subvolume, &mut all) {
            // Deleted, now or earlier.
            Err(Errno::ENOENT) => {}
            result => result?,
        }
    }
    Ok(Handles { all, damaged: Vec::new(), deleted_subvolumes: deleted(root)? })
}

/// How many subvolumes are deleted and still there: held by somebody, or not cleaned up yet. They are the
/// orphans of the root tree, which tells so before the next commit does (fs/btrfs/inode.c,
/// `btrfs_delete_subvolume`).
fn deleted(root: BorrowedFd<'_>) -> Result<usize, Errno> {
    let subvolumes = subvolumes(root)?;
    let mut count = 0;
    let first = Key { object: ORPHANS, kind: ORPHAN_ITEM, offset: 0 };
    items(root, ROOT_TREE, first, Key { offset: u64::MAX, ..first }, |key, _| {
        // The others are inodes of the old free space cache, which that tree has, too.
        count += usize::from(subvolumes.binary_search(&key.offset).is_ok());
    })?;
    Ok(count)
}

/// The numbers of all subvolumes.
fn subvolumes(root: BorrowedFd<'_>) -> Result<Vec<u64>, Errno> {
    let mut subvolumes = vec![TOP_LEVEL];
    let first = Key { object: FIRST_FREE_OBJECTID, kind: ROOT_ITEM, offset: 0 };
    let last = Key { object: LAST_FREE_OBJECTID, kind: ROOT_ITEM, offset: u64::MAX };
    items(root, ROOT_TREE, first, last, |key, _| {
        // A range of keys holds all that lies between its ends, of whatever type.
        if key.kind == ROOT_ITEM {
            subvolumes.push(key.object);
        }
    })?;
    subvolumes.dedup();
    Ok(subvolumes)
}

fn orphans(root: BorrowedFd<'_>, subvolume: u64, handles: &mut Vec<Handle>) -> Result<(), Errno> {
    let mut inodes = Vec::new();
    let first = Key { object: ORPHANS, kind: ORPHAN_ITEM, offset: 0 };
    items(root, subvolume, first, Key { offset: u64::MAX, ..first }, |key, _| inodes.push(key.offset))?;
    for inode in inodes {
        let mut generation = None;
        let key = Key { object: inode, kind: INODE_ITEM, offset: 0 };
        // `struct btrfs_inode_item` begins with it.
        items(root, subvolume, key, key, |_, item| generation = item.first_chunk().copied())?;
        // None: freed meanwhile.
        let Some(generation) = generation.map(u64::from_le_bytes) else { continue };
        let ([inode, inode_high], [volume, volume_high]) = (words(inode), words(subvolume));
        // `struct btrfs_fid` (fs/btrfs/export.h) has room for the lower half of the generation.
        let [generation, _] = words(generation);
        let handle = [inode, inode_high, volume, volume_high, generation];
        handles.push(Handle::new(INODE_AND_SUBVOLUME, &handle));
    }
    Ok(())
}

/// How many snapshots there are besides `own`, the subvolume that is mounted.
pub(super) fn snapshots(root: BorrowedFd<'_>, own: Option<u64>) -> Result<usize, Errno> {
    let mut count = 0;
    let first = Key { object: FIRST_FREE_OBJECTID, kind: ROOT_ITEM, offset: 0 };
    let last = Key { object: LAST_FREE_OBJECTID, kind: ROOT_ITEM, offset: u64::MAX };
    items(root, ROOT_TREE, first, last, |key, item| {
        // Only a snapshot's key ends with the transaction that made it (fs/btrfs/transaction.c,
        // `create_pending_snapshot`); a deleted subvolume has no references left.
        let references = item.get(REFERENCES..).and_then(|rest| rest.first_chunk().copied());
        let is_snapshot = key.kind == ROOT_ITEM && key.offset != 0;
        let is_there = references.is_some_and(|references| u32::from_le_bytes(references) > 0);
        count += usize::from(is_snapshot && is_there && Some(key.object) != own);
    })?;
    Ok(count)
}
