// SPDX-License-Identifier: MIT OR Apache-2.0

//! Both passes put together: the directories that can be reached from the root, on which side of
//! which mount point they lie, and what each holds.

use std::collections::VecDeque;

use super::error::Error;
use super::inode_table::{self, Directories, How, Tables};
use super::mount_points::{self, CoveredInodes};
use super::names::{self, Link, Names};
use super::reserved_inodes::ROOT;
use super::volume::Volume;
use crate::model::identity::DeviceNumber;
use crate::model::usage::{
    self as census, Census, Id, Listing, MountPoint, Options, Records, Side, Sides, Tally, Tree,
};

/// Not reached from the root.
const NOWHERE: Id = Id::MAX;

/// What came of reading all.
pub(super) enum Count {
    Whole(Census, Tables),
    /// Something is damaged: what the tables tell all the same.
    Damaged(Tables),
}

/// Reads all tables and all names.
pub(super) fn count(
    volume: &Volume<'_>,
    mount_points: &[MountPoint<'_>],
    options: Options<'_>,
    how: How<'_>,
) -> Result<Count, Error> {
    let (tables, directories) = inode_table::read(volume, how)?;
    if !tables.damaged.is_empty() {
        return Ok(Count::Damaged(tables));
    }
    let read = mount_points::look_up(volume, mount_points)
        .and_then(|covered| Ok((names::read(volume, &directories, &covered.files, how)?, covered)));
    let (names, covered) = match read {
        Ok(read) => read,
        Err(Error::Corrupt) => return Ok(Count::Damaged(tables)),
        Err(error) => return Err(error),
    };
    if directories.index_of(ROOT).is_none() && !how.monitor.is_cancelled() {
        return Err(Error::Corrupt);
    }
    let tree = plant(&directories, names, &covered);
    let Sides { visible, hidden, .. } = tree.sides(mount_points.len(), &Listing::default());
    let seen = visible.bytes + hidden.iter().map(|part| part.tally.bytes).sum();
    let census = Census {
        visible,
        hidden: Ok(hidden),
        outside: Ok(None),
        directories: tree.largest(options.directories, options.depth),
        watched: tree.below(options.watched),
        longest_directory: tree.longest(),
        skips: Vec::new(),
        // What has a name by its own count and was not met is known to who has both (`Internal::named`).
        moved: seen.saturating_sub(tables.named.bytes),
    };
    Ok(Count::Whole(census, tables))
}

/// Puts together what was read.
fn plant(directories: &Directories, names: Names, covered: &CoveredInodes) -> Tree {
    // What a run that was ended early has not read is not there.
    let mut planter = Planter::new(directories, names);
    if let Some(root) = directories.index_of(ROOT) {
        planter.reach(root, covered);
    }
    planter.finish()
}

struct Planter<'a> {
    directories: &'a Directories,
    names: Names,
    /// By the index of each directory: the number that it was given, and what it holds itself.
    ids: Vec<Id>,
    direct: Vec<Tally>,
    next: Id,
    records: Records,
}

/// A directory to which a way was found.
struct Reached {
    index: u32,
    parent: Id,
    side: Side,
    name: Vec<u8>,
}

impl<'a> Planter<'a> {
    fn new(directories: &'a Directories, mut names: Names) -> Self {
        let mut direct = vec![Tally::default(); directories.all.len()];
        for (tally, directory) in direct.iter_mut().zip(&directories.all) {
            tally.count(directory.allocated);
        }
        for (index, sum) in std::mem::take(&mut names.sums) {
            if let Some(tally) = direct.get_mut(index as usize) {
                tally.add(sum);
            }
        }
        names.children.sort_unstable_by_key(|child| child.parent);
        let ids = vec![NOWHERE; directories.all.len()];
        Self { directories, names, ids, direct, next: census::ROOT, records: Records::default() }
    }

    /// From the root outwards, so that a parent's number is smaller than its children's. What leads in
    /// a circle is not reached.
    fn reach(&mut self, root: u32, covered: &CoveredInodes) {
        let root = Reached { index: root, parent: census::ROOT, side: Side::Visible, name: Vec::new() };
        let mut queue = VecDeque::from([root]);
        while let Some(Reached { index, parent, side, name }) = queue.pop_front() {
            let Some(id) = self.record(index, parent, side, &name) else { continue };
            let children = &self.names.children;
            let first = children.partition_point(|child| child.parent < index);
            for child in children.iter().skip(first).take_while(|child| child.parent == index) {
                let Some(directory) = self.directories.all.get(child.directory as usize) else { continue };
                let mount = covered.directories.get(&directory.inode);
                queue.push_back(Reached {
                    index: child.directory,
                    parent: id,
                    side: mount.map_or(side, |&mount| Side::Hidden(mount)),
                    name: self.shown(index, directory.inode, self.names.name(child)),
                });
            }
        }
    }

    /// Gives a directory its number; `None` if it has one.
    fn record(&mut self, index: u32, parent: Id, side: Side, name: &[u8]) -> Option<Id> {
        let (id, direct) = (self.ids.get_mut(index as usize)?, self.direct.get(index as usize)?);
        if *id != NOWHERE {
            return None;
        }
        *id = self.next;
        self.next += 1;
        let directory = self.directories.all.get(index as usize)?;
        self.records.directory(*id, parent, directory.inode.into(), name, side, *direct);
        if side == Side::Visible {
            self.records.length(*id, directory.inode.into(), directory.size);
        }
        Some(*id)
    }

    /// A name as it is shown: the cipher in an encrypted directory tells nobody anything, and no name
    /// has a slash in it.
    fn shown(&self, parent: u32, inode: u32, name: &[u8]) -> Vec<u8> {
        let parent = self.directories.all.get(parent as usize);
        if parent.is_some_and(|parent| parent.is_encrypted) || name.contains(&b'/') || name.contains(&0) {
            return format!("(inode {inode})").into_bytes();
        }
        name.to_vec()
    }

    /// Adds the names of what has several, and what lies beneath mount points without being a directory.
    fn finish(mut self) -> Tree {
        for name in std::mem::take(&mut self.names.links) {
            let id = self.ids.get(name.directory as usize).copied().unwrap_or(NOWHERE);
            if id != NOWHERE {
                self.records.link(link(name, id));
            }
        }
        for covered in std::mem::take(&mut self.names.covered) {
            let (id, mut tally) = (self.next, Tally::default());
            self.next += 1;
            if covered.has_several_names {
                self.records.link(link(covered.name, id));
            } else {
                tally.count(covered.name.allocated);
            }
            let (inode, side) = (covered.name.inode.into(), Side::Hidden(covered.mount));
            self.records.directory(id, census::ROOT, inode, b"", side, tally);
        }
        Tree::new(vec![self.records], self.next)
    }
}

fn link(name: Link, directory: Id) -> census::Link {
    let Link { inode, allocated, .. } = name;
    census::Link { dev: DeviceNumber::default(), inode: inode.into(), allocated, directory, name: None }
}
