// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names that cannot be right, or that were read while they changed: those that lead to no inode with a name,
//! and further names of what has one. The kernel answers to those of directories (`ext4_lookup`, fs/ext4/namei.c;
//! `d_splice_alias`, fs/dcache.c), and whoever counts by names alone counts a file twice.

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use super::block_map::Budget;
use super::dirent;
use super::error::Error;
use super::inode::Inode;
use super::inode_table::Directories;
use super::names::Names;
use super::reread::reread_until_stable;
use super::reserved_inodes::{ROOT, Role};
use super::volume::Volume;

/// Looks again at all that is in doubt; an error where it stays so.
pub(super) fn names(volume: &Volume<'_>, directories: &Directories, names: &Names) -> Result<(), Error> {
    if !names.unknown.is_empty() || !names.further.is_empty() {
        let doubts = Doubts::of(directories, names);
        reread_until_stable(volume, || doubts.look(volume))?;
    }
    let mut met_again: FxHashSet<u32> = names.met_again.iter().copied().collect();
    // Which names led there first nobody has noted: all are read, and one that has only been moved is not met twice
    // in each of these passes.
    for _ in 0..PASSES {
        if met_again.is_empty() {
            return Ok(());
        }
        met_again = met_twice(volume, directories, &met_again)?;
    }
    if met_again.is_empty() { Ok(()) } else { Err(Error::Corrupt) }
}

/// How often all names are read again where a file seems to have one more than it knows of.
const PASSES: usize = 3;

/// Those of the `files` to which more names lead than they have.
fn met_twice(
    volume: &Volume<'_>,
    directories: &Directories,
    files: &FxHashSet<u32>,
) -> Result<FxHashSet<u32>, Error> {
    let (budget, mut met) = (Budget::of(volume), FxHashMap::default());
    for directory in &directories.all {
        let names = each_name(volume, directory.inode, &budget, |inode| {
            if files.contains(&inode) {
                *met.entry(inode).or_insert(0) += 1;
            }
        });
        match names {
            // It has made sense, so it is just being changed.
            Ok(()) | Err(Error::Corrupt) => {}
            Err(error) => return Err(error),
        }
    }
    let mut twice = FxHashSet::default();
    for (inode, names) in met {
        let raw = volume.inode(inode)?;
        let links = Inode::new(&raw).ok_or(Error::Corrupt)?.links();
        if names > usize::from(links) {
            twice.insert(inode);
        }
    }
    Ok(twice)
}

#[derive(Default)]
struct Doubts {
    /// How many names of an inode there may be in these directories together.
    allowed: FxHashMap<u32, usize>,
    directories: BTreeSet<u32>,
}

impl Doubts {
    fn of(directories: &Directories, names: &Names) -> Self {
        let mut doubts = Self::default();
        let inode = |index: u32| directories.all.get(index as usize).map(|directory| directory.inode);
        for unknown in &names.unknown {
            doubts.allowed.insert(unknown.inode, 0);
            doubts.directories.extend(inode(unknown.directory));
        }
        for &(parent, directory) in &names.further {
            let allowed = |directory| (directory, usize::from(directory != ROOT));
            doubts.allowed.extend(inode(directory).map(allowed));
            doubts.directories.extend(inode(parent));
        }
        let further: FxHashSet<u32> = names.further.iter().map(|&(_, directory)| directory).collect();
        let first = names.children.iter().filter(|child| further.contains(&child.directory));
        doubts.directories.extend(first.filter_map(|child| inode(child.parent)));
        doubts
    }

    /// Reads all these directories once more.
    fn look(&self, volume: &Volume<'_>) -> Result<(), Error> {
        let (budget, mut met) = (Budget::of(volume), FxHashMap::default());
        for &directory in &self.directories {
            each_name(volume, directory, &budget, |inode| {
                if self.allowed.contains_key(&inode) {
                    *met.entry(inode).or_insert(0) += 1;
                }
            })?;
        }
        for (inode, met) in met {
            let allowed = self.allowed.get(&inode).copied().unwrap_or(met);
            // It may have been made after its table was read.
            if met > allowed && (allowed > 0 || !has_name(volume, inode)?) {
                return Err(Error::Corrupt);
            }
        }
        Ok(())
    }
}

/// Calls `each` with all inodes that a directory names, if it still is one.
fn each_name(
    volume: &Volume<'_>,
    directory: u32,
    budget: &Budget,
    mut each: impl FnMut(u32),
) -> Result<(), Error> {
    let raw = volume.inode(directory)?;
    let inode = Inode::new(&raw).ok_or(Error::Corrupt)?;
    if !inode.is_directory() || inode.links() == 0 {
        return Ok(());
    }
    dirent::of_directory(volume, directory, inode, budget, |entry| each(entry.inode))
}

/// Whether an inode is one that names may lead to.
fn has_name(volume: &Volume<'_>, inode: u32) -> Result<bool, Error> {
    if !volume.is_ordinary(inode) || !volume.is_in_use(inode)? {
        return Ok(false);
    }
    let raw = volume.inode(inode)?;
    Ok(Role::of(volume, inode, Inode::new(&raw).ok_or(Error::Corrupt)?) == Role::Named)
}
