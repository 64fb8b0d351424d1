//! The inode tables, read in large pieces.

use nix::errno::Errno;

use super::format::CORRUPT;
use super::groups::Group;
use super::inode::Inode;
use super::volume::{self, LARGEST_READ, Volume};

/// Calls `each` with the number and the inode of all in a group that are in use: those marked in its
/// bitmap, and with whether its checksum is right. What has been freed stands in the table as it was last, and is
/// not told from what is held by anything else.
pub(super) fn in_use(
    volume: &Volume<'_>,
    group: &Group,
    room: &mut Room,
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
        let table = volume::room(&mut room.table, count as usize * size);
        volume.read(group.table, bytes(first), table)?;
        room.damaged.clear();
        room.damaged.resize(count as usize, false);
        if let Some(checksums) = volume.checksums {
            let used = (0..count).filter(|&index| is_used(first + index));
            checksums.check_inodes(group.first + first, table, size, used, &mut room.damaged);
        }
        for ((index, raw), damaged) in (first..).zip(table.chunks_exact(size)).zip(&room.damaged) {
            if is_used(index)
                && let Some(inode) = Inode::new(raw)
            {
                each(group.first + index, inode, !damaged)?;
            }
        }
    }
    Ok(())
}

/// What is used again for every piece of a table.
#[derive(Default)]
pub(super) struct Room {
    table: Vec<u8>,
    damaged: Vec<bool>,
}
