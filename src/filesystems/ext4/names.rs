// SPDX-License-Identifier: MIT OR Apache-2.0

//! The second pass: all names, read as the directories' blocks lie on the volume.

use std::collections::HashMap;

use super::block_map::{self, Budget, Run};
use super::dirent::{self, Entry, Rules};
use super::error::Error;
use super::format::flag;
use super::inode_table::{Blocks, Directories, Directory, How};
use super::parallel::spread;
use super::recheck;
use super::reread::reread_directory;
use super::reserved_inodes::ROOT;
use super::volume::{LARGEST_READ, Volume, room};
use crate::model::usage::Tally;

/// Reading so many blocks in vain is cheaper than another request.
const GAP: u64 = 4;

/// A directory in a directory, both by their indexes in `Directories::all`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    pub(super) parent: u32,
    pub(super) directory: u32,
    name: (usize, usize),
}

/// One name of an inode that has several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) directory: u32,
    pub(super) inode: u32,
    pub(super) allocated: u64,
}

/// A name with a mount over it, which is no directory's.
#[derive(Clone, Copy, Debug)]
pub(super) struct CoveredName {
    pub(super) mount: usize,
    pub(super) name: Link,
    pub(super) has_several_names: bool,
}

/// Names of files that mounts lie over, by the inode of their directory, with the mounts' numbers.
pub(super) type CoveredNames = HashMap<u32, Vec<(Vec<u8>, usize)>>;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) children: Vec<Child>,
    text: Vec<u8>,
    /// What lies in directories and has one name.
    pub(super) sums: Vec<(u32, Tally)>,
    pub(super) links: Vec<Link>,
    pub(super) covered: Vec<CoveredName>,
    /// Names that led to no inode with a name, by the directories' indexes.
    pub(super) unknown: Vec<Unknown>,
    /// Further names of directories, by their indexes.
    pub(super) further: Vec<(u32, u32)>,
    /// Files that were met again, though they have one name.
    pub(super) met_again: Vec<u32>,
}

/// A name that leads to an inode that was not in use, or had no name, when its table was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unknown {
    pub(super) directory: u32,
    pub(super) inode: u32,
}

impl Names {
    pub(super) fn name(&self, child: &Child) -> &[u8] {
        let (start, length) = child.name;
        self.text.get(start..start + length).unwrap_or_default()
    }

    fn take(&mut self, mut other: Self) {
        let shift = self.text.len();
        self.text.append(&mut other.text);
        let moved = |child: Child| Child { name: (child.name.0 + shift, child.name.1), ..child };
        self.children.extend(other.children.into_iter().map(moved));
        self.sums.append(&mut other.sums);
        self.links.append(&mut other.links);
        self.covered.append(&mut other.covered);
        self.unknown.append(&mut other.unknown);
        self.further.append(&mut other.further);
        self.met_again.append(&mut other.met_again);
    }
}

/// Reads all names.
pub(super) fn read(
    volume: &Volume<'_>,
    directories: &Directories,
    covered: &CoveredNames,
    how: How<'_>,
) -> Result<Names, Error> {
    let (blocks, inline) = (shares(&directories.blocks, how), shares(&directories.inline, how));
    let reader = Reader { volume, directories, covered, budget: &Budget::of(volume) };
    let work = |state: &mut (Names, Vec<u8>), number: usize| {
        let (names, buffer) = state;
        if how.monitor.is_cancelled() {
            return Ok(());
        }
        if let Some(share) = blocks.get(number) {
            return reader.blocks(share, buffer, names);
        }
        let share = number.checked_sub(blocks.len()).and_then(|number| inline.get(number));
        share.map_or(Ok(()), |share| reader.inline(share, names))
    };
    let mut all = Names::default();
    for (names, _) in spread(how.threads, blocks.len() + inline.len(), Default::default, work)? {
        all.take(names);
    }
    recheck::names(volume, directories, &all)?;
    Ok(all)
}

/// Slices for the threads: not so many that each read is small, not so few that some have nothing to do.
fn shares<'a, T>(all: &'a [T], how: How<'_>) -> Vec<&'a [T]> {
    const MOST: usize = 128;
    const FOR_EACH_THREAD: usize = 8;
    let size = all.len().div_ceil(how.threads.get().saturating_mul(FOR_EACH_THREAD));
    all.chunks(size.clamp(1, MOST)).collect()
}

/// Blocks that lie near each other, in the order in which they lie on the volume, in runs of at most
/// `most`, if no piece is larger by itself.
fn together(mut share: &[Blocks], most: u64) -> impl Iterator<Item = (&[Blocks], Run)> {
    std::iter::from_fn(move || {
        let Run { start, length } = share.first()?.run;
        let mut end = start + length;
        let joins = |blocks: &&Blocks| {
            let next = end.max(blocks.run.start + blocks.run.length);
            let joins = blocks.run.start <= end + GAP && next - start <= most;
            end = if joins { next } else { end };
            joins
        };
        let count = 1 + share.iter().skip(1).take_while(joins).count();
        let (now, later) = share.split_at_checked(count)?;
        share = later;
        Some((now, Run { start, length: end - start }))
    })
}

struct Reader<'a> {
    volume: &'a Volume<'a>,
    directories: &'a Directories,
    covered: &'a CoveredNames,
    budget: &'a Budget,
}

impl Reader<'_> {
    fn blocks(&self, share: &[Blocks], buffer: &mut Vec<u8>, names: &mut Names) -> Result<(), Error> {
        let block_size = self.volume.block_size;
        for (_, run) in together(share, u64::MAX) {
            self.volume.announce(run.start, 0, run.length.saturating_mul(block_size));
        }
        for (blocks, run) in together(share, LARGEST_READ as u64 / block_size) {
            let read = room(buffer, usize::try_from(run.length * block_size).map_err(|_| Error::Corrupt)?);
            self.volume.read(run.start, 0, read)?;
            for blocks in blocks {
                self.piece(blocks, run.start, read, names)?;
            }
        }
        Ok(())
    }

    /// Blocks of one directory. They are in `buffer`, which begins with block `start` of the volume.
    fn piece(&self, blocks: &Blocks, start: u64, buffer: &[u8], names: &mut Names) -> Result<(), Error> {
        let mut visit = self.visit(blocks.directory, names)?;
        let directory = visit.directory;
        let owner = self.volume.owner(directory.inode, directory.generation);
        let rules = Rules { inodes: self.volume.inodes, is_encrypted: directory.is_encrypted };
        let size = usize::try_from(self.volume.block_size).map_err(|_| Error::Corrupt)?;
        let skip = usize::try_from(blocks.run.start - start).map_err(|_| Error::Corrupt)?;
        let numbers = (blocks.run.start..blocks.run.start + blocks.run.length).zip(blocks.first..);
        for (block, (number, logical)) in buffer.chunks_exact(size).skip(skip).zip(numbers) {
            let is_intact = owner.is_none_or(|owner| owner.has_names(block, logical, directory.is_indexed));
            let read = if is_intact {
                dirent::of_block(block, rules, |entry| visit.entry(entry))
            } else {
                Err(Error::Corrupt)
            };
            match read {
                Err(Error::Corrupt) => self.again(number, &mut visit)?,
                read => read?,
            }
        }
        visit.finish();
        Ok(())
    }

    /// Reads a block again in which the entries make no sense, if it is still the directory's.
    fn again(&self, number: u64, visit: &mut Visit<'_>) -> Result<(), Error> {
        let directory = visit.directory.inode;
        let read = reread_directory(self.volume, directory, |inode| {
            let (mut next, mut logical) = (0, None);
            block_map::runs(self.volume, directory, inode, self.budget, |run| {
                if (run.start..run.start + run.length).contains(&number) {
                    logical = Some(next + number - run.start);
                }
                next += run.length;
            })?;
            let Some(logical) = logical else { return Ok(()) };
            let block = self.volume.block(number)?;
            let is_indexed = inode.has(flag::INDEX_FL) && self.volume.has_indexes();
            let owner = self.volume.owner(directory, inode.generation());
            let logical = u32::try_from(logical).map_err(|_| Error::Corrupt)?;
            if owner.is_some_and(|owner| !owner.has_names(&block, logical, is_indexed)) {
                return Err(Error::Corrupt);
            }
            dirent::of_block(&block, Rules::of(self.volume, inode), |entry| visit.entry(entry))
        });
        read.map(drop)
    }

    /// Directories that lay in their inodes when the tables were read.
    fn inline(&self, share: &[u32], names: &mut Names) -> Result<(), Error> {
        for &directory in share {
            let mut visit = self.visit(directory, names)?;
            reread_directory(self.volume, directory, |inode| {
                dirent::of_directory(self.volume, directory, inode, self.budget, |entry| visit.entry(entry))
            })?;
            visit.finish();
        }
        Ok(())
    }

    fn visit<'a>(&'a self, inode: u32, names: &'a mut Names) -> Result<Visit<'a>, Error> {
        let directories = self.directories;
        let index = directories.index_of(inode).ok_or(Error::Corrupt)?;
        let directory = directories.all.get(index as usize).ok_or(Error::Corrupt)?;
        let covered = self.covered.get(&inode).map(Vec::as_slice).unwrap_or_default();
        Ok(Visit { directories, covered, directory, index, sum: Tally::default(), names })
    }
}

/// A directory whose names are being read. What has been met before is not counted again, so that
/// blocks may be read twice.
struct Visit<'a> {
    directories: &'a Directories,
    covered: &'a [(Vec<u8>, usize)],
    directory: &'a Directory,
    index: u32,
    sum: Tally,
    names: &'a mut Names,
}

impl Visit<'_> {
    fn entry(&mut self, entry: Entry<'_>) {
        let Entry { inode, name } = entry;
        let Some(known) = self.directories.slots.meet(inode) else {
            self.names.unknown.push(Unknown { directory: self.index, inode });
            return;
        };
        let link = Link { directory: self.index, inode, allocated: known.allocated };
        let mount_point = self.covered.iter().find(|(covered, _)| covered == name);
        if known.is_directory {
            let Some(directory) = self.directories.index_of(inode) else { return };
            if known.is_new && inode != ROOT {
                let name_at = (self.names.text.len(), name.len());
                self.names.children.push(Child { parent: self.index, directory, name: name_at });
                self.names.text.extend(name);
            } else {
                self.names.further.push((self.index, directory));
            }
        } else if known.is_new || known.has_several_names {
            let has_several_names = known.has_several_names;
            if let Some(&(_, mount)) = mount_point {
                self.names.covered.push(CoveredName { mount, name: link, has_several_names });
            } else if has_several_names {
                self.names.links.push(link);
            } else {
                self.sum.count(known.allocated);
            }
        } else {
            self.names.met_again.push(inode);
        }
    }

    fn finish(self) {
        if self.sum.inodes > 0 {
            self.names.sums.push((self.index, self.sum));
        }
    }
}
