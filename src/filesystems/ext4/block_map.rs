// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the blocks of a file lie: extents, or the pointers of ext2 and ext3.

use std::sync::atomic::{AtomicU64, Ordering};

use super::checksum::Owner;
use super::error::Error;
use super::format::{extent, flag, u16_at, u32_at, wide};
use super::inode::Inode;
use super::volume::Volume;

/// The first pointers lead to blocks, the others to blocks of pointers: once, twice and three times.
pub(super) const DIRECT: usize = 12;

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

    fn take(&self, blocks: u64) -> Result<(), Error> {
        let taken =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(blocks));
        taken.map(drop).map_err(|_| Error::Corrupt)
    }
}

/// Calls `each` with all runs of blocks that hold the data of an inode, in the order of the file.
pub(super) fn runs(
    volume: &Volume<'_>,
    number: u32,
    inode: Inode<'_>,
    budget: &Budget,
    each: impl FnMut(Run),
) -> Result<(), Error> {
    walk(volume, number, inode, budget, each).map(drop)
}

/// The same, and tells how many blocks of the map it went through.
pub(super) fn walk(
    volume: &Volume<'_>,
    number: u32,
    inode: Inode<'_>,
    budget: &Budget,
    each: impl FnMut(Run),
) -> Result<u64, Error> {
    let end = inode.size(volume).div_ceil(volume.block_size);
    let run = Run { start: 0, length: 0 };
    let owner = volume.owner(number, inode.generation());
    let mut walk = Walk { volume, owner, budget, end, next: 0, nodes: 0, run, each };
    let map = inode.block();
    if inode.has(flag::EXTENTS_FL) {
        walk.extents(&Node::root(map)?)?;
    } else {
        let (direct, indirect) = map.split_at_checked(DIRECT * 4).ok_or(Error::Corrupt)?;
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
    /// What checks the blocks of the map, where there is anything to check.
    owner: Option<Owner<'a>>,
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
    fn extents(&mut self, node: &Node<'_>) -> Result<(), Error> {
        for entry in node.entries() {
            if entry.first >= self.end {
                break;
            }
            if node.depth > 0 {
                let child = self.child(entry.run.start)?;
                if self.owner.is_some_and(|owner| !owner.has_extents(&child)) {
                    return Err(Error::Corrupt);
                }
                self.extents(&Node::child(&child, node.depth - 1, entry.first)?)?;
                continue;
            }
            if entry.first < self.next {
                return Err(Error::Corrupt);
            }
            self.next = entry.first;
            // What has not been written holds nothing.
            if entry.is_written {
                self.add(entry.run.start, entry.run.length)?;
            }
        }
        Ok(())
    }

    /// `level` says through how many further blocks of pointers each pointer leads.
    fn pointers(&mut self, pointers: &[u8], level: u32) -> Result<(), Error> {
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

    fn child(&mut self, block: u64) -> Result<Vec<u8>, Error> {
        self.budget.take(1)?;
        self.nodes += 1;
        self.volume.block(block)
    }

    /// The file goes on with these blocks.
    fn add(&mut self, start: u64, length: u64) -> Result<(), Error> {
        let length = length.min(self.end - self.next);
        if start == 0 || start.checked_add(length).is_none_or(|end| end > self.volume.blocks) {
            return Err(Error::Corrupt);
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

/// A node of a tree of extents, checked as `__ext4_ext_check` (fs/ext4/extents.c) does, but for its checksum and
/// for where its entries lead.
struct Node<'a> {
    depth: u16,
    entries: &'a [u8],
}

/// One of its entries: data, or with `depth` a further node, which has a length of one block.
struct Entry {
    /// Where in the file.
    first: u64,
    run: Run,
    is_written: bool,
}

impl<'a> Node<'a> {
    /// The one in the inode.
    fn root(map: &'a [u8]) -> Result<Self, Error> {
        let depth = u16_at(map, extent::EH_DEPTH)?;
        if depth > extent::EXT4_MAX_EXTENT_DEPTH { Err(Error::Corrupt) } else { Self::new(map, depth) }
    }

    /// One in a block of its own: `first` is what its parent says of where it begins.
    fn child(block: &'a [u8], depth: u16, first: u64) -> Result<Self, Error> {
        let node = Self::new(block, depth)?;
        let begins = node.entries().next().is_none_or(|entry| entry.first == first);
        begins.then_some(node).ok_or(Error::Corrupt)
    }

    fn new(node: &'a [u8], depth: u16) -> Result<Self, Error> {
        let (count, most) = (u16_at(node, extent::EH_ENTRIES)?, u16_at(node, extent::EH_MAX)?);
        let room = node.len() / extent::SIZE - 1;
        let is_sound = u16_at(node, extent::EH_MAGIC)? == extent::EXT4_EXT_MAGIC
            && u16_at(node, extent::EH_DEPTH)? == depth
            && (1..=room).contains(&usize::from(most))
            && count <= most
            && (count > 0 || depth == 0);
        let entries = node.get(extent::SIZE..(usize::from(count) + 1) * extent::SIZE);
        let node = Self { depth, entries: entries.filter(|_| is_sound).ok_or(Error::Corrupt)? };
        let mut next = 0;
        for entry in node.entries() {
            // What lies behind the last block that a file can have wraps around.
            let end = entry.first + entry.run.length;
            if entry.run.length == 0 || entry.first < next || end > u64::from(u32::MAX) {
                return Err(Error::Corrupt);
            }
            next = end;
        }
        Ok(node)
    }

    fn entries(&self) -> impl Iterator<Item = Entry> + use<'a> {
        let is_leaf = self.depth == 0;
        self.entries
            .as_chunks()
            .0
            .iter()
            .map(move |entry| if is_leaf { Entry::leaf(entry) } else { Entry::index(entry) })
    }
}

impl Entry {
    fn leaf(raw: &[u8; extent::SIZE]) -> Self {
        let length = short(raw, extent::EE_LEN);
        let is_written = length <= extent::EXT_INIT_MAX_LEN;
        let length = if is_written { length } else { length - extent::EXT_INIT_MAX_LEN };
        let start = wide(word(raw, extent::EE_START_LO), short(raw, extent::EE_START_HI).into());
        Self {
            first: word(raw, extent::EE_BLOCK).into(),
            run: Run { start, length: length.into() },
            is_written,
        }
    }

    fn index(raw: &[u8; extent::SIZE]) -> Self {
        let start = wide(word(raw, extent::EI_LEAF_LO), short(raw, extent::EI_LEAF_HI).into());
        Self { first: word(raw, extent::EE_BLOCK).into(), run: Run { start, length: 1 }, is_written: true }
    }
}

fn short(raw: &[u8; extent::SIZE], offset: usize) -> u16 {
    u16::from_le_bytes(std::array::from_fn(|byte| raw[offset + byte]))
}

fn word(raw: &[u8; extent::SIZE], offset: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|byte| raw[offset + byte]))
}

/// Whether the map in an inode is a tree's root whose entries lead only to what is `allowed`.
pub(super) fn is_sound_root(map: &[u8], allowed: impl Fn(Run) -> bool) -> bool {
    /// The header of most files: nothing in four entries of depth 0.
    const EMPTY: [u8; 8] = [0x0a, 0xf3, 0, 0, 4, 0, 0, 0];
    map.starts_with(&EMPTY)
        || Node::root(map).is_ok_and(|root| root.entries().all(|entry| allowed(entry.run)))
}
