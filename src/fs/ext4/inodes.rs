//! The inode tables, read in large pieces.

use nix::errno::Errno;

use super::groups::Group;
use super::layout::{CORRUPT, ReadAt, Volume, inode};

/// Large enough that the calls do not count, small enough to stay in the processor's cache.
const PIECE: usize = 1 << 20;

/// An inode as it stands in its table.
#[derive(Clone, Copy)]
pub(super) struct Inode<'a> {
    fields: &'a [u8; inode::SMALLEST as usize],
}

impl<'a> Inode<'a> {
    pub(super) fn new(raw: &'a [u8]) -> Option<Self> {
        Some(Self { fields: raw.first_chunk()? })
    }

    fn short(self, offset: usize) -> u16 {
        u16::from_le_bytes(std::array::from_fn(|byte| self.fields[offset + byte]))
    }

    fn word(self, offset: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|byte| self.fields[offset + byte]))
    }

    /// Type and permissions; 0 for an inode that has never been written.
    pub(super) fn mode(self) -> u16 {
        self.short(inode::MODE)
    }

    /// How many names it has.
    pub(super) fn links(self) -> u16 {
        self.short(inode::LINKS)
    }

    /// Tells it from others that have had or will have the same number.
    pub(super) fn generation(self) -> u32 {
        self.word(inode::GENERATION)
    }
}

/// Calls `each` with the number and the inode of all in a group that are in use: those marked in its
/// bitmap. What has been freed stands in the table as it was last, and is not told from what is held by
/// anything else.
pub(super) fn in_use<R: ReadAt + ?Sized>(
    volume: &Volume<'_, R>,
    group: &Group,
    buffer: &mut Vec<u8>,
    mut each: impl FnMut(u32, Inode<'_>),
) -> Result<(), Errno> {
    if group.used == 0 {
        return Ok(());
    }
    let bitmap = volume.block(group.bitmap)?;
    let is_used =
        |index: u32| bitmap.get(index as usize / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
    let size = usize::from(volume.inode_size);
    let per_piece = u32::try_from(PIECE / size).map_err(|_| CORRUPT)?;
    let mut next = 0;
    while next < group.used {
        let count = per_piece.min(group.used - next);
        if (next..next + count).any(is_used) {
            buffer.resize(count as usize * size, 0);
            volume.read(group.table, u64::from(next) * u64::from(volume.inode_size), buffer)?;
            for (index, raw) in (next..).zip(buffer.chunks_exact(size)) {
                if is_used(index)
                    && let Some(inode) = Inode::new(raw)
                {
                    each(group.first + index, inode);
                }
            }
        }
        next += count;
    }
    Ok(())
}
