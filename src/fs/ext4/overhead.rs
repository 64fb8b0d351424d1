//! What lies at fixed places: superblocks, group descriptors, bitmaps, inode tables, the journal. `df`
//! leaves it out, except where the mount says `minixdf`.

use nix::errno::Errno;

use super::format::CORRUPT;
use super::groups::Group;
use super::inode::Inode;
use super::volume::Volume;

/// Its bytes: the clusters with anything of it, each once, as `ext4_calculate_overhead`
/// (fs/ext4/super.c) counts them.
pub(super) fn overhead(volume: &Volume<'_>, groups: &[Group]) -> Result<u64, Errno> {
    let table =
        (u64::from(volume.inodes_per_group) * u64::from(volume.inode_size)).div_ceil(volume.block_size);
    // Blocks, and how many follow.
    let mut ranges = vec![(0, volume.first_data_block)];
    for (group, number) in groups.iter().zip(0..) {
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
    Ok(count.saturating_mul(volume.cluster_size).saturating_add(journal(volume)?))
}

/// The length of the journal, where it is not on a device of its own.
fn journal(volume: &Volume<'_>) -> Result<u64, Errno> {
    if volume.journal == 0 {
        return Ok(0);
    }
    let raw = volume.inode(volume.journal)?;
    let size = Inode::new(&raw).ok_or(CORRUPT)?.size(volume);
    Ok(size.div_ceil(volume.cluster_size).saturating_mul(volume.cluster_size))
}
