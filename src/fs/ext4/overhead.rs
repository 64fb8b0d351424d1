//! What lies at fixed places: superblocks, group descriptors, bitmaps, inode tables, the journal. `df`
//! leaves it out, except where the mount says `minixdf`.

use nix::errno::Errno;

use super::format::CORRUPT;
use super::groups;
use super::inode::Inode;
use super::volume::Volume;
use crate::bytes::Bytes;
use crate::fs::Term;

/// What it comes to, as `ext4_calculate_overhead` (fs/ext4/super.c) counts it. With `bigalloc` the kernel
/// goes by what the superblock says of it, which mkfs has counted in the same way.
pub(super) fn overhead(volume: &Volume<'_>) -> Result<Vec<Term>, Errno> {
    // No more groups are believed in than there is room for.
    if !volume.is_whole() {
        return Err(CORRUPT);
    }
    let tables = if volume.cluster_size == volume.block_size { blocks(volume)? } else { clusters(volume)? };
    let tables = tables.saturating_mul(volume.cluster_size);
    Ok(vec![
        Term { name: "superblocks, tables and bitmaps", bytes: Bytes(tables) },
        Term { name: "journal", bytes: Bytes(journal(volume)?) },
    ])
}

/// The blocks of an inode table.
fn table(volume: &Volume<'_>) -> u64 {
    (u64::from(volume.inodes_per_group) * u64::from(volume.inode_size)).div_ceil(volume.block_size)
}

/// Where each block is allocated on its own, no two things share one: no need to see where they lie.
fn blocks(volume: &Volume<'_>) -> Result<u64, Errno> {
    let groups = u64::from(volume.group_count()?);
    let bitmaps_and_table = 2 + table(volume);
    let fixed: u64 = (0..groups).map(|group| volume.fixed_blocks(group)).sum();
    Ok(volume.first_data_block + fixed + groups * bitmaps_and_table)
}

/// The clusters with anything of it, each once.
fn clusters(volume: &Volume<'_>) -> Result<u64, Errno> {
    let table = table(volume);
    // Blocks, and how many follow.
    let mut ranges = vec![(0, volume.first_data_block)];
    for (group, number) in groups::groups(volume)?.iter().zip(0..) {
        let start = volume.group_start(number).ok_or(CORRUPT)?;
        ranges.push((start, volume.fixed_blocks(number)));
        ranges.extend([(group.blocks_bitmap, 1), (group.bitmap, 1), (group.table, table)]);
    }
    let per_cluster = volume.cluster_size / volume.block_size;
    let clusters = |(start, length): (u64, u64)| {
        (start / per_cluster, start.saturating_add(length).div_ceil(per_cluster))
    };
    let mut clusters: Vec<(u64, u64)> = ranges.into_iter().map(clusters).collect();
    clusters.sort_unstable();
    let (mut count, mut reached) = (0, 0);
    for (start, end) in clusters {
        count += end.saturating_sub(start.max(reached));
        reached = reached.max(end);
    }
    Ok(count)
}

/// The bytes of the journal, where it is not on a device of its own.
fn journal(volume: &Volume<'_>) -> Result<u64, Errno> {
    if volume.journal == 0 {
        return Ok(0);
    }
    let raw = volume.inode(volume.journal)?;
    let size = Inode::new(&raw).ok_or(CORRUPT)?.size(volume);
    Ok(size.div_ceil(volume.cluster_size).saturating_mul(volume.cluster_size))
}
