//! Where the blocks of a file lie: extents, or the pointers of ext2 and ext3.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

use super::format::{CORRUPT, extent, flag, u16_at, u32_at, wide};
use super::inode::Inode;
use super::volume::Volume;

/// The first pointers lead to blocks, the others to blocks of pointers: once, twice and three times.
const DIRECT: usize = 12;

/// Blocks of a file that follow each other on the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// How many blocks may still be read. A block belongs to one file, so no more can be needed than
/// there are, however damaged files lead into each other.
pub(super) struct Budget(AtomicU64);

impl Budget {
    pub(super) fn of(volume: &Volume<'_>) -> Self {
        Self(AtomicU64::new(volume.blocks))
    }

    fn take(&self, blocks: u64) -> Result<(), Errno> {
        let taken =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(blocks));
        taken.map(drop).map_err(|_| CORRUPT)
    }
}

/// Calls `each` with all runs of blocks that hold the data of `inode`, in the order of the file.
pub(super) fn runs(
    volume: &Volume<'_>,
    inode: Inode<'_>,
    budget: &Budget,
    each: impl FnMut(Run),
) -> Result<(), Errno> {
    walk(volume, inode, budget, each).map(drop)
}

/// The same, and tells how many blocks of the map it went through.
pub(super) fn walk(
    volume: &Volume<'_>,
    inode: Inode<'_>,
    budget: &Budget,
    each: impl FnMut(Run),
) -> Result<u64, Errno> {
    let end = inode.size(volume).div_ceil(volume.block_size);
    let run = Run { start: 0, length: 0 };
    let mut walk = Walk { volume, budget, end, next: 0, nodes: 0, run, each };
    let map = inode.block();
    if inode.has(flag::EXTENTS) {
        let depth = u16_at(map, extent::DEPTH)?;
        if depth > extent::DEEPEST {
            return Err(CORRUPT);
        }
        walk.extents(map, depth)?;
    } else {
        let (direct, indirect) = map.split_at_checked(DIRECT * 4).ok_or(CORRUPT)?;
        walk.pointers(direct, 0)?;
        for (pointer, level) in indirect.chunks_exact(4).zip(1..) {
            walk.pointers(pointer, level)?;
        }
    }
    walk.finish();
    Ok(walk.nodes)
}

struct Walk<'a, F> {
    volume: &'a Volume<'a>,
    budget: &'a Budget,
    /// Where the file ends, in blocks.
    end: u64,
    /// The next block of the file.
    next: u64,
    /// Blocks of the map so far.
    nodes: u64,
    /// What has not been handed on yet.
    run: Run,
    each: F,
}

impl<F: FnMut(Run)> Walk<'_, F> {
    fn extents(&mut self, node: &[u8], depth: u16) -> Result<(), Errno> {
        if u16_at(node, extent::MAGIC)? != extent::MAGIC_VALUE || u16_at(node, extent::DEPTH)? != depth {
            return Err(CORRUPT);
        }
        let entries = usize::from(u16_at(node, extent::ENTRIES)?);
        let entries = node.get(extent::SIZE..(entries + 1) * extent::SIZE).ok_or(CORRUPT)?;
        for entry in entries.chunks_exact(extent::SIZE) {
            let first = u64::from(u32_at(entry, extent::FIRST)?);
            if first >= self.end {
                break;
            }
            if depth > 0 {
                let high = u16_at(entry, extent::CHILD_HI)?.into();
                let child = self.child(wide(u32_at(entry, extent::CHILD_LO)?, high))?;
                self.extents(&child, depth - 1)?;
                continue;
            }
            let length = u16_at(entry, extent::LENGTH)?;
            if first < self.next || length == 0 {
                return Err(CORRUPT);
            }
            self.next = first;
            // What has not been written holds nothing.
            if length <= extent::LONGEST_WRITTEN {
                let high = u16_at(entry, extent::START_HI)?.into();
                self.add(wide(u32_at(entry, extent::START_LO)?, high), length.into())?;
            }
        }
        Ok(())
    }

    /// `level` says through how many further blocks of pointers each pointer leads.
    fn pointers(&mut self, pointers: &[u8], level: u32) -> Result<(), Errno> {
        let covered = (self.volume.block_size / 4).pow(level);
        for pointer in pointers.chunks_exact(4) {
            if self.next >= self.end {
                break;
            }
            match (u64::from(u32_at(pointer, 0)?), level) {
                (0, _) => self.next += covered,
                (block, 0) => self.add(block, 1)?,
                (block, _) => {
                    let child = self.child(block)?;
                    self.pointers(&child, level - 1)?;
                }
            }
        }
        Ok(())
    }

    fn child(&mut self, block: u64) -> Result<Vec<u8>, Errno> {
        self.budget.take(1)?;
        self.nodes += 1;
        self.volume.block(block)
    }

    /// The file goes on with these blocks.
    fn add(&mut self, start: u64, length: u64) -> Result<(), Errno> {
        let length = length.min(self.end - self.next);
        if start == 0 || start.checked_add(length).is_none_or(|end| end > self.volume.blocks) {
            return Err(CORRUPT);
        }
        self.budget.take(length)?;
        self.next += length;
        if self.run.length > 0 && self.run.start + self.run.length == start {
            self.run.length += length;
        } else {
            self.finish();
            self.run = Run { start, length };
        }
        Ok(())
    }

    fn finish(&mut self) {
        if self.run.length > 0 {
            (self.each)(self.run);
        }
    }
}
