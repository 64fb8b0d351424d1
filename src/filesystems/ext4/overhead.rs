// SPDX-License-Identifier: MIT OR Apache-2.0

//! What lies at fixed places: superblocks, group descriptors, bitmaps, inode tables, the journal. `df`
//! leaves it out, except where the mount says `minixdf`.

use super::block_map::{self, Budget, Run};
use super::error::Error;
use super::group_desc;
use super::inode::Inode;
use super::reserved_inodes::{BAD_BLOCKS, BAD_BLOCKS_MAP};
use super::volume::Volume;
use crate::model::bytes::Bytes;
use crate::model::ledger::Term;

/// In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overhead {
    tables: u64,
    journal: u64,
    /// What the kernel takes all of it for.
    counted: u64,
}

impl Overhead {
    pub(super) fn read(volume: &Volume<'_>) -> Result<Self, Error> {
        let journal = journal(volume)?;
        if volume.cluster_size == volume.block_size {
            let tables = blocks(volume)?.saturating_mul(volume.block_size);
            return Ok(Self { tables, journal, counted: tables.saturating_add(journal) });
        }
        let bytes = |clusters: u64| clusters.saturating_mul(volume.cluster_size);
        let tables = bytes(clusters(volume, u64::from(volume.reserved_gdt_blocks))?);
        // With `bigalloc` the kernel goes by what mkfs has counted, if that can be; what it counts itself lacks
        // the room for more descriptors (`__ext4_fill_super`, `count_overhead` in fs/ext4/super.c).
        let counted = if (1..=volume.blocks).contains(&volume.overhead_clusters) {
            bytes(volume.overhead_clusters)
        } else {
            bytes(clusters(volume, 0)?).saturating_add(journal)
        };
        Ok(Self { tables, journal, counted })
    }

    /// All that is there.
    pub(super) fn all(self) -> Vec<Term> {
        self.terms(self.tables.saturating_add(self.journal))
    }

    /// What of that is left out of the size that `df` prints.
    pub(super) fn uncounted(self) -> Vec<Term> {
        self.terms(self.counted)
    }

    fn terms(self, whole: u64) -> Vec<Term> {
        let journal = self.journal.min(whole);
        vec![
            Term { name: "superblocks, tables and bitmaps", bytes: Bytes(whole - journal) },
            Term { name: "journal", bytes: Bytes(journal) },
        ]
    }

    /// What is there, but not left out: `df` counts it as used.
    pub(super) fn counted_as_used(self) -> Term {
        let bytes = self.tables.saturating_add(self.journal).saturating_sub(self.counted);
        Term { name: "tables that the superblock does not count", bytes: Bytes(bytes) }
    }

    /// What is left out, but not there.
    pub(super) fn missing(self) -> Term {
        let bytes = self.counted.saturating_sub(self.tables.saturating_add(self.journal));
        Term { name: "tables that are not there", bytes: Bytes(bytes) }
    }
}

/// The blocks of an inode table.
fn table(volume: &Volume<'_>) -> u64 {
    (u64::from(volume.inodes_per_group) * u64::from(volume.inode_size)).div_ceil(volume.block_size)
}

/// Where each block is allocated on its own, no two things share one: no need to see where they lie.
fn blocks(volume: &Volume<'_>) -> Result<u64, Error> {
    let groups = u64::from(volume.group_count()?);
    let bitmaps_and_table = 2 + table(volume);
    let reserved = volume.reserved_gdt_blocks.into();
    let fixed: u64 = (0..groups).map(|group| volume.fixed_blocks(group, reserved)).sum();
    Ok(volume.first_data_block + fixed + groups * bitmaps_and_table)
}

/// The clusters with anything of it, each once. Beside each copy of the superblock there is room for so
/// many more blocks of descriptors.
fn clusters(volume: &Volume<'_>, reserved: u64) -> Result<u64, Error> {
    Ok(distinct_clusters(volume, &fixed_runs(volume, reserved)?))
}

/// Where it lies: blocks, and how many follow.
pub(super) fn fixed_runs(volume: &Volume<'_>, reserved: u64) -> Result<Vec<Run>, Error> {
    let table = table(volume);
    let run = |start, length| Run { start, length };
    let mut runs = vec![run(0, volume.first_data_block)];
    for (group, number) in group_desc::groups(volume)?.iter().zip(0..) {
        let start = volume.group_start(number).ok_or(Error::Corrupt)?;
        runs.push(run(start, volume.fixed_blocks(number, reserved)));
        runs.extend([run(group.blocks_bitmap, 1), run(group.bitmap, 1), run(group.table, table)]);
    }
    Ok(runs)
}

/// How many clusters have anything of these runs.
fn distinct_clusters(volume: &Volume<'_>, runs: &[Run]) -> u64 {
    let per_cluster = volume.cluster_size / volume.block_size;
    let clusters =
        |run: &Run| (run.start / per_cluster, run.start.saturating_add(run.length).div_ceil(per_cluster));
    let mut clusters: Vec<(u64, u64)> = runs.iter().map(clusters).collect();
    clusters.sort_unstable();
    let (mut count, mut reached) = (0, 0);
    for (start, end) in clusters {
        count += end.saturating_sub(start.max(reached));
        reached = reached.max(end);
    }
    count
}

/// The bad blocks that lie nowhere else, and the blocks of their map. What their inode says lacks the map
/// (`ext2fs_update_bb_inode`, `lib/ext2fs/bb_inode.c` of e2fsprogs), and some may lie where copies of
/// the superblock and of descriptors do, which is counted there.
pub(super) fn bad_blocks(volume: &Volume<'_>) -> Result<Term, Error> {
    let raw = volume.inode(BAD_BLOCKS)?;
    let inode = Inode::new(&raw).ok_or(Error::Corrupt)?;
    let mut bad = Vec::new();
    let bytes = match block_map::walk(volume, BAD_BLOCKS, inode, &Budget::of(volume), |run| bad.push(run)) {
        Ok(0) if bad.is_empty() => 0,
        Ok(map) => elsewhere(volume, bad)?.saturating_add(map).saturating_mul(volume.cluster_size),
        Err(Error::Corrupt) => inode.allocated(volume),
        Err(error) => return Err(error),
    };
    Ok(Term { name: BAD_BLOCKS_MAP, bytes: Bytes(bytes) })
}

/// How many clusters have something of these runs, but nothing that is counted here.
fn elsewhere(volume: &Volume<'_>, mut runs: Vec<Run>) -> Result<u64, Error> {
    let fixed_runs = fixed_runs(volume, volume.reserved_gdt_blocks.into())?;
    let fixed = distinct_clusters(volume, &fixed_runs);
    runs.extend(fixed_runs);
    Ok(distinct_clusters(volume, &runs).saturating_sub(fixed))
}

/// The bytes of the journal, where it is not on a device of its own.
fn journal(volume: &Volume<'_>) -> Result<u64, Error> {
    if volume.journal == 0 {
        return Ok(0);
    }
    let raw = volume.inode(volume.journal)?;
    Ok(volume.in_clusters(Inode::new(&raw).ok_or(Error::Corrupt)?.size(volume)))
}
