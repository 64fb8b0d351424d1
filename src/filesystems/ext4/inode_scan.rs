// SPDX-License-Identifier: MIT OR Apache-2.0

//! The inode tables, read in large pieces.

use std::iter;

use super::checksum::Checksums;
use super::error::Error;
use super::group_desc::Group;
use super::inode::Inode;
use super::volume::{LARGEST_READ, Volume, room};

/// So much the kernel reads ahead at once for a device of its usual settings; the rest of a longer
/// announcement is lost (`force_page_cache_ra`, mm/readahead.c).
const LARGEST_ANNOUNCEMENT: u32 = 128 << 10;

/// Pieces that lie side by side, given by their beginnings and lengths, as one of at most `most`.
fn together(mut pieces: impl Iterator<Item = (u32, u32)>, most: u32) -> impl Iterator<Item = (u32, u32)> {
    let mut next = pieces.next();
    iter::from_fn(move || {
        let (first, mut count) = next.take()?;
        for piece in pieces.by_ref() {
            if piece.0 != first + count || count + piece.1 > most {
                next = Some(piece);
                break;
            }
            count += piece.1;
        }
        Some((first, count))
    })
}

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
    mut each: impl FnMut(u32, Inode<'_>, bool) -> Result<(), Error>,
) -> Result<(), Error> {
    if group.used == 0 {
        return Ok(());
    }
    let bitmap = volume.block(group.bitmap)?;
    let is_used =
        |index: u32| bitmap.get(index as usize / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
    let size = usize::from(volume.inode_size);
    let per_piece = u32::try_from(LARGEST_READ / size).map_err(|_| Error::Corrupt)?;
    let pieces = (0..group.used).step_by(per_piece as usize);
    let pieces = pieces.map(|first| (first, per_piece.min(group.used - first)));
    let pieces = pieces.filter(|&(first, count)| (first..first + count).any(is_used));
    let bytes = |inodes: u32| u64::from(inodes) * u64::from(volume.inode_size);
    for (first, count) in together(pieces.clone(), LARGEST_ANNOUNCEMENT / u32::from(volume.inode_size)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_announced_together_up_to_a_limit() {
        let pieces = [(0, 4), (4, 4), (8, 4), (16, 4), (20, 1)];
        let announced: Vec<_> = together(pieces.into_iter(), 8).collect();
        assert_eq!(announced, [(0, 8), (8, 4), (16, 5)]);
        assert_eq!(together([(0, 9), (9, 1)].into_iter(), 8).collect::<Vec<_>>(), [(0, 9), (9, 1)]);
        assert_eq!(together(std::iter::empty(), 8).count(), 0);
    }
}
