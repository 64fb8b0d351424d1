//! Both passes put together: the directories that can be reached from the root, on which side of
//! which mount point they lie, and what each holds.

use std::collections::VecDeque;

use nix::errno::Errno;

use super::covers::{self, Covered};
use super::format::CORRUPT;
use super::names::{self, Link, Names};
use super::own::ROOT;
use super::tables::{self, Directories, How, Tables};
use super::volume::Volume;
use crate::model::identity::DeviceNumber;
use crate::model::usage::{
    self as census, Census, Id, Listing, MountPoint, Options, Records, Side, Sides, Tally, Tree,
};

/// Not reached from the root.
const NOWHERE: Id = Id::MAX;

/// Reads all tables and all names.
pub(super) fn count(
    volume: &Volume<'_>,
    mount_points: &[MountPoint<'_>],
    options: Options<'_>,
    how: How<'_>,
) -> Result<(Census, Tables), Errno> {
    let covered = covers::look_up(volume, mount_points)?;
    let (tables, directories) = tables::read(volume, how)?;
    if !tables.damaged.is_empty() {
        return Err(CORRUPT);
    }
    let names = names::read(volume, &directories, &covered.files, how)?;
    if directories.place_of(ROOT).is_none() && !how.monitor.is_cancelled() {
        return Err(CORRUPT);
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
    Ok((census, tables))
}

/// Puts together what was read.
fn plant(directories: &Directories, names: Names, covered: &Covered) -> Tree {
    // What a run that was ended early has not read is not there.
    let mut planter = Planter::new(directories, names);
    if let Some(root) = directories.place_of(ROOT) {
        planter.reach(root, covered);
    }
    planter.finish()
}

struct Planter<'a> {
    directories: &'a Directories,
    names: Names,
    /// By place: the number that each directory was given, and what it holds.
    ids: Vec<Id>,
    own: Vec<Tally>,
    next: Id,
    records: Records,
}

/// A directory to which a way was found.
struct Reached {
    place: u32,
    parent: Id,
    side: Side,
    name: Vec<u8>,
}

impl<'a> Planter<'a> {
    fn new(directories: &'a Directories, mut names: Names) -> Self {
        let mut own = vec![Tally::default(); directories.all.len()];
        for (own, directory) in own.iter_mut().zip(&directories.all) {
            own.count(directory.allocated);
        }
        for (place, sum) in std::mem::take(&mut names.sums) {
            if let Some(own) = own.get_mut(place as usize) {
                own.add(sum);
            }
        }
        names.children.sort_unstable_by_key(|child| child.parent);
        let ids = vec![NOWHERE; directories.all.len()];
        Self { directories, names, ids, own, next: census::ROOT, records: Records::default() }
    }

    /// From the root outwards, so that a parent's number is smaller than its children's. What leads in
    /// a circle is not reached.
    fn reach(&mut self, root: u32, covered: &Covered) {
        let root = Reached { place: root, parent: census::ROOT, side: Side::Visible, name: Vec::new() };
        let mut queue = VecDeque::from([root]);
        while let Some(Reached { place, parent, side, name }) = queue.pop_front() {
            let Some(id) = self.record(place, parent, side, &name) else { continue };
            let children = &self.names.children;
            let first = children.partition_point(|child| child.parent < place);
            for child in children.iter().skip(first).take_while(|child| child.parent == place) {
                let Some(directory) = self.directories.all.get(child.directory as usize) else { continue };
                let mount = covered.directories.get(&directory.inode);
                queue.push_back(Reached {
                    place: child.directory,
                    parent: id,
                    side: mount.map_or(side, |&mount| Side::Hidden(mount)),
                    name: self.shown(place, directory.inode, self.names.name(child)),
                });
            }
        }
    }

    /// Gives a directory its number; `None` if it has one.
    fn record(&mut self, place: u32, parent: Id, side: Side, name: &[u8]) -> Option<Id> {
        let (id, own) = (self.ids.get_mut(place as usize)?, self.own.get(place as usize)?);
        if *id != NOWHERE {
            return None;
        }
        *id = self.next;
        self.next += 1;
        let directory = self.directories.all.get(place as usize)?;
        self.records.directory(*id, parent, directory.inode.into(), name, side, *own);
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
            let (id, mut own) = (self.next, Tally::default());
            self.next += 1;
            if covered.has_several_names {
                self.records.link(link(covered.name, id));
            } else {
                own.count(covered.name.allocated);
            }
            let (inode, side) = (covered.name.inode.into(), Side::Hidden(covered.mount));
            self.records.directory(id, census::ROOT, inode, b"", side, own);
        }
        Tree::new(vec![self.records], self.next)
    }
}

fn link(name: Link, directory: Id) -> census::Link {
    let Link { inode, allocated, .. } = name;
    census::Link { dev: DeviceNumber::default(), inode: inode.into(), allocated, directory, name: None }
}
