// SPDX-License-Identifier: MIT OR Apache-2.0

//! The first pass: all inode tables. What the inodes take up, which of them are directories and
//! where those lie.

use std::num::NonZero;

use super::block_map::{self, Budget, Run};
use super::error::Error;
use super::format::flag;
use super::group_desc::{Group, groups};
use super::iget::Iget;
use super::inode::Inode;
use super::inode_scan::in_use;
use super::parallel::spread;
use super::reread::{recheck_inodes, reread_directory};
use super::reserved_inodes::{InternalUse, Role};
use super::slots::{GroupSlots, Slots};
use super::volume::{LARGEST_READ, Volume};
use crate::filesystems::unlinked::Damaged;
use crate::model::monitor::Monitor;
use crate::model::usage::Tally;

/// How to read.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    pub(super) threads: NonZero<usize>,
    pub(super) monitor: &'a Monitor,
}

/// A directory with a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directory {
    pub(super) inode: u32,
    pub(super) generation: u32,
    pub(super) is_encrypted: bool,
    pub(super) is_indexed: bool,
    pub(super) allocated: u64,
    pub(super) size: u64,
}

/// Blocks of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    pub(super) directory: u32,
    /// The number that the first of them has in the directory.
    pub(super) first: u32,
    pub(super) run: Run,
}

/// All that the tables tell.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) internal: InternalUse,
    /// Inodes that are in use and have no name, with their bytes.
    pub(super) nameless: Vec<(u32, u64)>,
    /// All those that have one.
    pub(super) named: Tally,
    /// Those that the kernel would refuse. They are in none of the above.
    pub(super) damaged: Vec<Damaged>,
}

/// What it takes to follow the names.
pub(super) struct Directories {
    pub(super) slots: Slots,
    /// By inode number.
    pub(super) all: Vec<Directory>,
    /// In the order in which they lie on the volume.
    pub(super) blocks: Vec<Blocks>,
    /// Those whose names lie in their inodes.
    pub(super) inline: Vec<u32>,
}

impl Directories {
    /// Where a directory is in `all`.
    pub(super) fn index_of(&self, inode: u32) -> Option<u32> {
        let index = self.all.binary_search_by_key(&inode, |directory| directory.inode).ok()?;
        u32::try_from(index).ok()
    }
}

/// What one thread has found.
#[derive(Default)]
struct TableScan {
    tables: Tables,
    slots: Vec<GroupSlots>,
    directories: Vec<Directory>,
    blocks: Vec<Blocks>,
    inline: Vec<u32>,
    /// Inodes that look damaged.
    doubtful: Vec<u32>,
    buffer: Vec<u8>,
    /// How many runs of blocks there may be before they are looked through.
    checked_at: usize,
}

/// Fewer runs take no memory to speak of.
const FIRST_CHECK: usize = 1 << 16;

/// A block belongs to one directory. Where that is not so for most, a few extents may be in the way of ever
/// so many directories, and would take memory without end. Where directories come and go, some may be met twice.
pub(super) fn check_blocks(blocks: &mut [Blocks]) -> Result<(), Error> {
    blocks.sort_unstable_by_key(|blocks| blocks.run.start);
    let (mut all, mut distinct, mut reached) = (0_u64, 0_u64, 0);
    for Blocks { run, .. } in blocks.iter() {
        let end = run.start.saturating_add(run.length);
        all = all.saturating_add(run.length);
        distinct += end.saturating_sub(run.start.max(reached));
        reached = reached.max(end);
    }
    let limit = distinct.saturating_mul(2).saturating_add(FIRST_CHECK as u64);
    if all > limit { Err(Error::Corrupt) } else { Ok(()) }
}

/// Reads all tables.
pub(super) fn read(volume: &Volume<'_>, how: How<'_>) -> Result<(Tables, Directories), Error> {
    let groups = groups(volume)?;
    let (iget, budget) = (Iget::new(volume)?, Budget::of(volume));
    let reader = Reader { volume, iget: &iget, budget: &budget };
    let found = spread(how.threads, groups.len(), TableScan::default, |found, number| {
        let group = groups.get(number).ok_or(Error::Corrupt)?;
        if how.monitor.is_cancelled() {
            return Ok(());
        }
        let before = found.tables.named.bytes;
        found.group(&reader, group)?;
        how.monitor.advance(found.tables.named.bytes.saturating_sub(before));
        Ok(())
    })?;
    let mut all = TableScan::default();
    for found in found {
        all.take(found);
    }
    all.look_again(&reader)?;
    all.directories.sort_unstable_by_key(|directory| directory.inode);
    check_blocks(&mut all.blocks)?;
    let directories = Directories {
        slots: Slots::new(all.slots, groups.len(), volume.inodes_per_group)?,
        all: all.directories,
        blocks: all.blocks,
        inline: all.inline,
    };
    Ok((all.tables, directories))
}

/// What all threads have in common.
struct Reader<'a> {
    volume: &'a Volume<'a>,
    iget: &'a Iget<'a>,
    budget: &'a Budget,
}

impl TableScan {
    fn group(&mut self, reader: &Reader<'_>, group: &Group) -> Result<(), Error> {
        let mut internal = InternalUse::default();
        let mut slots = GroupSlots::new((group.first - 1) / reader.volume.inodes_per_group);
        let mut buffer = std::mem::take(&mut self.buffer);
        let checksums = reader.volume.checksums();
        in_use(reader.volume, group, checksums, &mut buffer, |number, inode, is_intact| {
            let role = Role::of(reader.volume, number, inode);
            if reader.iget.check_summed(role, inode, is_intact).is_err() {
                self.doubtful.push(number);
                return Ok(());
            }
            internal.add(reader.volume, role, inode);
            self.inode(reader, role, number, inode, &mut slots)
        })?;
        self.buffer = buffer;
        self.tables.internal.take(internal);
        self.slots.push(slots);
        Ok(())
    }

    /// An inode that makes sense.
    fn inode(
        &mut self,
        reader: &Reader<'_>,
        role: Role,
        number: u32,
        inode: Inode<'_>,
        slots: &mut GroupSlots,
    ) -> Result<(), Error> {
        let volume = reader.volume;
        let allocated = inode.reported(volume);
        match role {
            Role::Named => {
                self.tables.named.count(allocated);
                let (is_directory, links) = (inode.is_directory(), inode.links());
                slots.note((number - 1) % volume.inodes_per_group, allocated, is_directory, links > 1);
                if is_directory {
                    self.directory(reader, number, inode)?;
                }
            }
            Role::Nameless => self.tables.nameless.push((number, allocated)),
            Role::EaInode | Role::Reserved(_) | Role::Nothing => {}
        }
        Ok(())
    }

    /// Looks again at what looked damaged.
    fn look_again(&mut self, reader: &Reader<'_>) -> Result<(), Error> {
        let doubtful = std::mem::take(&mut self.doubtful);
        self.tables.damaged = recheck_inodes(reader.iget, doubtful, |number, inode| {
            let role = Role::of(reader.volume, number, inode);
            let mut internal = InternalUse::default();
            internal.add(reader.volume, role, inode);
            self.tables.internal.take(internal);
            let group = (number - 1) / reader.volume.inodes_per_group;
            let position = self.slots.iter().position(|slots| slots.is_of(group)).ok_or(Error::Corrupt)?;
            let mut slots = self.slots.swap_remove(position);
            self.inode(reader, role, number, inode, &mut slots)?;
            self.slots.push(slots);
            Ok(())
        })?;
        Ok(())
    }

    fn directory(&mut self, reader: &Reader<'_>, number: u32, inode: Inode<'_>) -> Result<(), Error> {
        let Reader { volume, budget, .. } = *reader;
        self.directories.push(Directory {
            inode: number,
            generation: inode.generation(),
            is_encrypted: inode.has(flag::ENCRYPT_FL),
            is_indexed: inode.has(flag::INDEX_FL) && volume.has_indexes(),
            allocated: inode.allocated(volume),
            size: inode.size(volume),
        });
        if inode.has(flag::INLINE_DATA_FL) {
            self.inline.push(number);
            return Ok(());
        }
        let before = self.blocks.len();
        if before >= self.checked_at {
            check_blocks(&mut self.blocks)?;
            self.checked_at = (before * 2).max(FIRST_CHECK);
        }
        let mut runs = |inode: Inode<'_>| {
            self.blocks.truncate(before);
            let (mut next, mut allowed) = (0, true);
            block_map::runs(volume, number, inode, budget, |run| {
                allowed &= reader.iget.allows(run);
                let pieces = pieces(volume, run);
                self.blocks.extend(pieces.map(|(ahead, run)| Blocks {
                    directory: number,
                    first: u32::try_from(next + ahead).unwrap_or(u32::MAX),
                    run,
                }));
                next += run.length;
            })?;
            // There are no holes in it.
            let is_whole = next > 0 && next.checked_mul(volume.block_size) == Some(inode.size(volume));
            if allowed && is_whole { Ok(()) } else { Err(Error::Corrupt) }
        };
        match runs(inode) {
            Err(Error::Corrupt) => reread_directory(volume, number, runs).map(drop),
            read => read,
        }
    }

    fn take(&mut self, mut other: Self) {
        self.tables.internal.take(std::mem::take(&mut other.tables.internal));
        self.tables.nameless.append(&mut other.tables.nameless);
        self.tables.named.add(other.tables.named);
        self.slots.append(&mut other.slots);
        self.directories.append(&mut other.directories);
        self.blocks.append(&mut other.blocks);
        self.inline.append(&mut other.inline);
        self.doubtful.append(&mut other.doubtful);
    }
}

/// A run in pieces that are read at once, each with the number of blocks before it.
fn pieces(volume: &Volume<'_>, run: Run) -> impl Iterator<Item = (u64, Run)> + use<> {
    let most = LARGEST_READ as u64 / volume.block_size;
    (0..run.length.div_ceil(most)).map(move |piece| {
        let ahead = piece * most;
        (ahead, Run { start: run.start + ahead, length: most.min(run.length - ahead) })
    })
}
