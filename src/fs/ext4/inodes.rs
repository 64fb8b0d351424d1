//! The inode tables, read in large pieces.

use nix::errno::Errno;

use super::format::CORRUPT;
use super::groups::Group;
use super::inode::Inode;
use super::volume::{LARGEST_READ, Volume, room};

/// Calls `each` with the number and the inode of all in a group that are in use: those marked in its
/// bitmap. What has been freed stands in the table as it was last, and is not told from what is held by
/// anything else.
pub(super) fn in_use(
    volume: &Volume<'_>,
    group: &Group,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(u32, Inode<'_>) -> Result<(), Errno>,
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
        for (index, raw) in (first..).zip(table.chunks_exact(size)) {
            if is_used(index)
                && let Some(inode) = Inode::new(raw)
            {
                each(group.first + index, inode)?;
            }
        }
    }
    Ok(())
}
