//! The inode tables, read in large pieces.

use nix::errno::Errno;

use super::checksum::Checksums;
use super::format::CORRUPT;
use super::groups::Group;
use super::inode::Inode;
use super::volume::{LARGEST_READ, Volume, room};

/// So many inodes are summed up and then looked at: they stay in the processor's nearest cache.
const NEAR: usize = 32;

/// Calls `each` with the number and the inode of all in a group that are in use: those marked in its
/// bitmap. What has been freed stands in the table as it was last, and is not told from what is held by
/// anything else. With `checksums`, `each` is told whether the inode's is right.
pub(super) fn in_use(
    volume: &Volume<'_>,
    group: &Group,
    checksums: Option<&Checksums>,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(u32, Inode<'_>, bool) -> Result<(), Errno>,
) -> Result<(), Errno> {
    if group.used == 0 {
        return Ok(());
    }
    let bitmap = volume.block(group.bitmap)?;
    let is_used =
        |index: u32| bitmap.get(index as usize / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
    let size = usize::from(volume.inode_size);
    let per_piece = u32::try_from(LARGEST_READ / size).map_err(|_| CORRUPT)?;
    let pieces = (0..group.used).step_by(per_piece as usize);
    let pieces = pieces.map(|first| (first, per_piece.min(group.used - first)));
    let pieces = pieces.filter(|&(first, count)| (first..first + count).any(is_used));
    let bytes = |inodes: u32| u64::from(inodes) * u64::from(volume.inode_size);
    for (first, count) in pieces.clone() {
        volume.announce(group.table, bytes(first), bytes(count));
    }
    for (first, count) in pieces {
        let table = room(buffer, count as usize * size);
        volume.read(group.table, bytes(first), table)?;
        for (first, near) in (first..).step_by(NEAR).zip(table.chunks(size * NEAR)) {
            let mut damaged = [false; NEAR];
            let used = (0..).zip(near.chunks_exact(size)).filter(|(index, _)| is_used(first + index));
            if let Some(checksums) = checksums {
                checksums.check(
                    group.first + first,
                    near,
                    used.clone().map(|(index, _)| index),
                    &mut damaged,
                );
            }
            for (index, raw) in used {
                let is_damaged = damaged.get(index as usize).is_some_and(|damaged| *damaged);
                if let Some(inode) = Inode::new(raw) {
                    each(group.first + first + index, inode, !is_damaged)?;
                }
            }
        }
    }
    Ok(())
}
