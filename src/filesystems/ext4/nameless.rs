//! The inodes without a name: those that are noted as orphans, or, where no list of them is kept, those that
//! the tables tell of.

use std::collections::BTreeSet;

use nix::errno::Errno;

use super::format::CORRUPT;
use super::groups::groups;
use super::iget::Iget;
use super::inode::Inode;
use super::inodes::in_use;
use super::own::Role;
use super::settle::settled_inodes;
use super::volume::Volume;
use crate::filesystems::Damaged;

/// What it takes to open an inode by its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nameless {
    pub(super) inode: u32,
    pub(super) generation: u32,
}

/// Inodes without a name, and those of which that cannot be told. Some may be both: what is held is in the
/// kernel's memory, whatever has become of it on the disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) nameless: Vec<Nameless>,
    pub(super) damaged: Vec<Damaged>,
}

/// All inodes that are in use and have no name. Whatever was one during the whole call is among them;
/// a few others are being made or freed at this moment.
pub(super) fn in_tables(volume: &Volume<'_>) -> Result<Found, Errno> {
    let iget = Iget::new(volume)?;
    let (mut nameless, mut doubtful, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
    for group in groups(volume)? {
        in_use(volume, &group, None, &mut buffer, |number, inode, _| {
            let role = Role::of(volume, number, inode);
            if role == Role::Nameless {
                nameless.push(Nameless { inode: number, generation: inode.generation() });
                if iget.check(role, number, inode).is_err() {
                    doubtful.push(number);
                }
            }
            Ok(())
        })?;
    }
    let damaged = settled_inodes(&iget, doubtful, |number, inode| {
        if Role::of(volume, number, inode) == Role::Nameless {
            nameless.push(Nameless { inode: number, generation: inode.generation() });
        }
        Ok(())
    })?;
    nameless.sort_unstable_by_key(|nameless| nameless.inode);
    nameless.dedup_by_key(|nameless| nameless.inode);
    Ok(Found { nameless, damaged })
}

/// Those that are noted as orphans.
pub(super) fn of_orphans(volume: &Volume<'_>, orphans: BTreeSet<u32>) -> Result<Found, Errno> {
    if orphans.is_empty() {
        return Ok(Found::default());
    }
    let (mut nameless, mut doubtful) = (Vec::new(), Vec::new());
    let iget = Iget::new(volume)?;
    for number in orphans {
        let raw = volume.inode(number)?;
        let inode = Inode::new(&raw).ok_or(CORRUPT)?;
        nameless.push(Nameless { inode: number, generation: inode.generation() });
        let role = Role::of(volume, number, inode);
        if iget.check(role, number, inode).is_err() {
            doubtful.push(number);
        }
    }
    Ok(Found { nameless, damaged: settled_inodes(&iget, doubtful, |_, _| Ok(()))? })
}
