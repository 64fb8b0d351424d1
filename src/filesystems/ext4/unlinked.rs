// SPDX-License-Identifier: MIT OR Apache-2.0

//! The inodes without a name: those that are noted as orphans, or, where no list of them is kept, those that
//! the tables tell of.

use std::collections::BTreeSet;

use super::error::Error;
use super::group_desc::groups;
use super::iget::Iget;
use super::inode::Inode;
use super::inode_scan::in_use;
use super::reread::recheck_inodes;
use super::reserved_inodes::Role;
use super::volume::Volume;
use crate::filesystems::unlinked::Damaged;

/// What it takes to open an inode by its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnlinkedInode {
    pub(super) inode: u32,
    pub(super) generation: u32,
}

/// Inodes without a name, and those of which that cannot be told. Some may be both: what is held is in the
/// kernel's memory, whatever has become of it on the disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UnlinkedInodes {
    pub(super) all: Vec<UnlinkedInode>,
    pub(super) damaged: Vec<Damaged>,
}

/// All inodes that are in use and have no name. Whatever was one during the whole call is among them;
/// a few others are being made or freed at this moment.
pub(super) fn in_tables(volume: &Volume<'_>) -> Result<UnlinkedInodes, Error> {
    let iget = Iget::new(volume)?;
    let (mut nameless, mut doubtful, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups(volume)? {
        in_use(volume, &group, None, &mut buffer, |number, inode, _| {
            let role = Role::of(volume, number, inode);
            if role == Role::Nameless {
                nameless.push(UnlinkedInode { inode: number, generation: inode.generation() });
                if iget.check(role, number, inode).is_err() {
                    doubtful.push(number);
                }
            }
            Ok(())
        })?;
    }
    let damaged = recheck_inodes(&iget, doubtful, |number, inode| {
        if Role::of(volume, number, inode) == Role::Nameless {
            nameless.push(UnlinkedInode { inode: number, generation: inode.generation() });
        }
        Ok(())
    })?;
    nameless.sort_unstable_by_key(|nameless| nameless.inode);
    nameless.dedup_by_key(|nameless| nameless.inode);
    Ok(UnlinkedInodes { all: nameless, damaged })
}

/// Those that are noted as orphans.
pub(super) fn of_orphans(volume: &Volume<'_>, orphans: BTreeSet<u32>) -> Result<UnlinkedInodes, Error> {
    if orphans.is_empty() {
        return Ok(UnlinkedInodes::default());
    }
    let (mut nameless, mut doubtful) = (Vec::new(), Vec::new());
    let iget = Iget::new(volume)?;
    for number in orphans {
        let raw = volume.inode(number)?;
        let inode = Inode::new(&raw).ok_or(Error::Corrupt)?;
        nameless.push(UnlinkedInode { inode: number, generation: inode.generation() });
        let role = Role::of(volume, number, inode);
        if iget.check(role, number, inode).is_err() {
            doubtful.push(number);
        }
    }
    Ok(UnlinkedInodes { all: nameless, damaged: recheck_inodes(&iget, doubtful, |_, _| Ok(()))? })
}
