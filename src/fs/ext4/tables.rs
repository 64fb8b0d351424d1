//! The first pass: all inode tables. What the inodes take up, which of them are directories and
//! where those lie.

use std::num::NonZero;
use std::time::Duration;

use nix::errno::Errno;

use super::format::{CORRUPT, flag};
use super::groups::{Group, groups};
use super::inode::Inode;
use super::inodes::in_use;
use super::map::{self, Budget, Run};
use super::own::{Own, Role};
use super::parallel::spread;
use super::settle::settled;
use super::slots::{GroupSlots, Slots};
use super::volume::{LARGEST_READ, Volume};
use crate::census::Tally;
use crate::monitor::Monitor;

/// How to read.
#[derive(Clone, Copy)]
pub(super) struct How<'a> {
    pub(super) threads: NonZero<usize>,
    /// Before something that looks damaged is looked at again.
    pub(super) pause: Duration,
    pub(super) monitor: &'a Monitor,
}

/// A directory with a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directory {
    pub(super) inode: u32,
    pub(super) is_encrypted: bool,
    pub(super) allocated: u64,
    pub(super) size: u64,
}

/// Blocks of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    pub(super) directory: u32,
    pub(super) run: Run,
}

/// All that the tables tell.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) own: Own,
    /// Inodes that are in use and have no name, with their bytes.
    pub(super) nameless: Vec<(u32, u64)>,
    /// All those that have one.
    pub(super) named: Tally,
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
    pub(super) fn place_of(&self, inode: u32) -> Option<u32> {
        let place = self.all.binary_search_by_key(&inode, |directory| directory.inode).ok()?;
        u32::try_from(place).ok()
    }
}

/// What one thread has found.
#[derive(Default)]
struct Found {
    tables: Tables,
    slots: Vec<GroupSlots>,
    directories: Vec<Directory>,
    blocks: Vec<Blocks>,
    inline: Vec<u32>,
    buffer: Vec<u8>,
    /// How many runs of blocks there may be before they are looked through.
    checked_at: usize,
}

/// Fewer runs take no memory to speak of.
const FIRST_CHECK: usize = 1 << 16;

/// A block belongs to one directory. Where that is not so for most, a few extents may be in the way of ever
/// so many directories, and would take memory without end. Where directories come and go, some may be met twice.
pub(super) fn check_blocks(blocks: &mut [Blocks]) -> Result<(), Errno> {
    blocks.sort_unstable_by_key(|blocks| blocks.run.start);
    let (mut all, mut distinct, mut reached) = (0_u64, 0_u64, 0);
    for Blocks { run, .. } in blocks.iter() {
        let end = run.start.saturating_add(run.length);
        all = all.saturating_add(run.length);
        distinct += end.saturating_sub(run.start.max(reached));
        reached = reached.max(end);
    }
    let limit = distinct.saturating_mul(2).saturating_add(FIRST_CHECK as u64);
    if all > limit { Err(CORRUPT) } else { Ok(()) }
}

/// Reads all tables.
pub(super) fn read(volume: &Volume<'_>, how: How<'_>) -> Result<(Tables, Directories), Errno> {
    let groups = groups(volume)?;
    let budget = Budget::of(volume);
    let found = spread(how.threads, groups.len(), Found::default, |found, number| {
        let group = groups.get(number).ok_or(CORRUPT)?;
        if how.monitor.is_cancelled() { Ok(()) } else { found.group(volume, group, &budget, how) }
    })?;
    let mut all = Found::default();
    for found in found {
        all.take(found);
    }
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

impl Found {
    fn group(
        &mut self,
        volume: &Volume<'_>,
        group: &Group,
        budget: &Budget,
        how: How<'_>,
    ) -> Result<(), Errno> {
        let mut own = Own::default();
        let mut slots = GroupSlots::new((group.first - 1) / volume.inodes_per_group);
        let before = self.tables.named.bytes;
        let mut buffer = std::mem::take(&mut self.buffer);
        in_use(volume, group, &mut buffer, |number, inode| {
            let role = Role::of(volume, number, inode);
            own.add(volume, role, inode);
            let allocated = inode.allocated(volume).saturating_add(inode.reported_inline(volume));
            // A little more than there is may be charged to one for attributes that it shares.
            if allocated / 2 > volume.size() {
                return Err(CORRUPT);
            }
            match role {
                Role::Named => {
                    self.tables.named.count(allocated);
                    let (is_directory, links) = (inode.is_directory(), inode.links());
                    slots.note(number - group.first, allocated, is_directory, links > 1);
                    if is_directory {
                        self.directory(volume, number, inode, budget, how.pause)?;
                    }
                }
                Role::Nameless => self.tables.nameless.push((number, allocated)),
                Role::AttributeValue | Role::Own(_) | Role::Nothing => {}
            }
            Ok(())
        })?;
        self.buffer = buffer;
        self.tables.own.take(own);
        self.slots.push(slots);
        let read = self.tables.named.bytes.saturating_sub(before);
        how.monitor.advance(read);
        Ok(())
    }

    fn directory(
        &mut self,
        volume: &Volume<'_>,
        number: u32,
        inode: Inode<'_>,
        budget: &Budget,
        pause: Duration,
    ) -> Result<(), Errno> {
        let is_encrypted = inode.has(flag::ENCRYPTED);
        let (allocated, size) = (inode.allocated(volume), inode.size(volume));
        self.directories.push(Directory { inode: number, is_encrypted, allocated, size });
        if inode.has(flag::INLINE_DATA) {
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
            map::runs(volume, inode, budget, |run| {
                self.blocks.extend(pieces(volume, run).map(|run| Blocks { directory: number, run }));
            })
        };
        match runs(inode) {
            Err(CORRUPT) => settled(volume, number, pause, runs).map(drop),
            read => read,
        }
    }

    fn take(&mut self, mut other: Self) {
        self.tables.own.take(std::mem::take(&mut other.tables.own));
        self.tables.nameless.append(&mut other.tables.nameless);
        self.tables.named.add(other.tables.named);
        self.slots.append(&mut other.slots);
        self.directories.append(&mut other.directories);
        self.blocks.append(&mut other.blocks);
        self.inline.append(&mut other.inline);
    }
}

/// A run in pieces that are read at once.
fn pieces(volume: &Volume<'_>, run: Run) -> impl Iterator<Item = Run> + use<> {
    let most = LARGEST_READ as u64 / volume.block_size;
    (0..run.length.div_ceil(most)).map(move |piece| Run {
        start: run.start + piece * most,
        length: most.min(run.length - piece * most),
    })
}
