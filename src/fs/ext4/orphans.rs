//! The two places in which ext4 notes its orphans: the chain and the orphan file.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use rustc_hash::FxHashSet;

use super::layout::{CORRUPT, ReadAt, Volume, inode, u16_at, u32_at, wide};

/// How often the chain may be followed when it changes meanwhile, which breaks off a pass.
const PASSES: usize = 200;
/// How many passes have to reach an end: see `chains`.
const COMPLETE: usize = 3;

/// What ends each block of the orphan file: `struct ext4_orphan_block_tail`.
const TAIL_MAGIC: u32 = 0x0b10_ca04;
const TAIL_SIZE: usize = 8;
/// `mke2fs` makes it 2 MiB at most, and the kernel refuses more than 8 (`ext4_init_orphan_info`),
/// but has not always done so.
const LARGEST_FILE: u64 = 64 << 20;

/// `i_flags`, include/uapi/linux/fs.h.
const EXTENTS: u32 = 0x8_0000;

/// `struct ext4_extent_header`, `ext4_extent` and `ext4_extent_idx` (`fs/ext4/ext4_extents.h`).
mod extent {
    pub(super) const MAGIC: u16 = 0xf30a;
    pub(super) const ENTRIES: usize = 2;
    pub(super) const DEPTH: usize = 6;
    pub(super) const SIZE: usize = 12;
    pub(super) const DEEPEST: u16 = 5;
    pub(super) const FIRST: usize = 0;
    pub(super) const LENGTH: usize = 4;
    pub(super) const START_HI: usize = 6;
    pub(super) const START_LO: usize = 8;
    pub(super) const CHILD_LO: usize = 4;
    pub(super) const CHILD_HI: usize = 8;
    /// Longer ones are allocated but not written.
    pub(super) const LONGEST_WRITTEN: u16 = 0x8000;
}

/// All inodes that are noted as orphans, each once. Whatever was one during the whole call is
/// among them. `pause` lies between the passes through the chain.
pub(super) fn list<R: ReadAt + ?Sized>(
    volume: &Volume<'_, R>,
    pause: Duration,
) -> Result<BTreeSet<u32>, Errno> {
    let mut found = BTreeSet::new();
    if let Some(file) = volume.orphan_file {
        orphan_file(volume, file, &mut found)?;
    }
    // Also with an orphan file: what has found no place in it goes into the chain.
    chains(volume, pause, &mut found)?;
    Ok(found)
}

/// Follows the chain several times, and takes what was found in any. Once is not enough:
/// `ext4_orphan_add` makes an inode the first of the chain, lets go of the lock, and only then writes
/// the pointer to the others into the inode's table. Until then the chain seems to end there.
fn chains<R: ReadAt + ?Sized>(
    volume: &Volume<'_, R>,
    pause: Duration,
    found: &mut BTreeSet<u32>,
) -> Result<(), Errno> {
    let mut complete = 0;
    let mut last = Ok(());
    for _ in 0..PASSES {
        if volume.last_orphan()? == 0 {
            return Ok(());
        }
        last = chain(volume, found);
        match last {
            Ok(()) if complete + 1 == COMPLETE => return Ok(()),
            Ok(()) => {
                complete += 1;
                sleep(pause);
            }
            // It has changed, or looks damaged because it has.
            Err(Errno::EAGAIN | CORRUPT) => {}
            Err(errno) => return Err(errno),
        }
    }
    last
}

/// Follows the chain once, to its end. The pointer to an inode is read again once the inode has
/// been: if it is still there, then the inode was in the chain, and what it said of the next was true.
/// An inode that leaves the chain would otherwise end it too early (`ext4_orphan_del` clears its pointer,
/// and the time of its deletion takes that place).
fn chain<R: ReadAt + ?Sized>(volume: &Volume<'_, R>, found: &mut BTreeSet<u32>) -> Result<(), Errno> {
    let mut passed = FxHashSet::default();
    let mut previous = None;
    let next_of = |inode: Option<u32>| match inode {
        None => volume.last_orphan(),
        Some(inode) => volume.next_orphan(inode),
    };
    let mut current = next_of(None)?;
    while current != 0 {
        if !volume.is_inode(current) || !passed.insert(current) {
            return Err(CORRUPT);
        }
        let next = next_of(Some(current))?;
        if next_of(previous)? != current {
            return Err(Errno::EAGAIN);
        }
        found.insert(current);
        (previous, current) = (Some(current), next);
    }
    Ok(())
}

/// Reads the numbers in all blocks of the orphan file. Each has its place as long as it is there.
fn orphan_file<R: ReadAt + ?Sized>(
    volume: &Volume<'_, R>,
    file: u32,
    found: &mut BTreeSet<u32>,
) -> Result<(), Errno> {
    let raw = volume.inode(file)?;
    let size = wide(u32_at(&raw, inode::SIZE_LO)?, u32_at(&raw, inode::SIZE_HI)?);
    if size > LARGEST_FILE {
        return Err(CORRUPT);
    }
    for number in 0..size / volume.block_size {
        let block = volume.block(physical(volume, &raw, number)?)?;
        let (numbers, tail) = block.split_at(block.len() - TAIL_SIZE);
        if u32_at(tail, 0)? != TAIL_MAGIC {
            return Err(CORRUPT);
        }
        for number in numbers.chunks_exact(4) {
            match u32_at(number, 0)? {
                0 => {}
                inode if volume.is_inode(inode) => {
                    found.insert(inode);
                }
                _ => return Err(CORRUPT),
            }
        }
    }
    Ok(())
}

/// Where the `number`th block of a file lies on the volume.
fn physical<R: ReadAt + ?Sized>(volume: &Volume<'_, R>, raw: &[u8], number: u64) -> Result<u64, Errno> {
    let map = raw.get(inode::BLOCKS).ok_or(CORRUPT)?;
    if u32_at(raw, inode::FLAGS)? & EXTENTS == 0 {
        return through_pointers(volume, map, number);
    }
    let depth = u16_at(map, extent::DEPTH)?;
    if depth > extent::DEEPEST {
        return Err(CORRUPT);
    }
    through_extents(volume, map, depth, number)
}

fn through_extents<R: ReadAt + ?Sized>(
    volume: &Volume<'_, R>,
    node: &[u8],
    depth: u16,
    number: u64,
) -> Result<u64, Errno> {
    if u16_at(node, 0)? != extent::MAGIC || u16_at(node, extent::DEPTH)? != depth {
        return Err(CORRUPT);
    }
    let entries = usize::from(u16_at(node, extent::ENTRIES)?);
    let entries = node.get(extent::SIZE..(entries + 1) * extent::SIZE).ok_or(CORRUPT)?;
    let first = |entry: &[u8]| u32_at(entry, extent::FIRST).map(u64::from);
    let before =
        entries.chunks_exact(extent::SIZE).take_while(|entry| first(entry).is_ok_and(|at| at <= number));
    let entry = before.last().ok_or(CORRUPT)?;
    if depth > 0 {
        let high = u16_at(entry, extent::CHILD_HI)?.into();
        let child = volume.block(wide(u32_at(entry, extent::CHILD_LO)?, high))?;
        return through_extents(volume, &child, depth - 1, number);
    }
    let inside = number - first(entry)?;
    let length = u16_at(entry, extent::LENGTH)?;
    if length > extent::LONGEST_WRITTEN || inside >= length.into() {
        return Err(CORRUPT);
    }
    let high = u16_at(entry, extent::START_HI)?.into();
    Ok(wide(u32_at(entry, extent::START_LO)?, high) + inside)
}

/// The map of ext3: twelve blocks, then one block of pointers, then one of pointers to such.
/// More the largest orphan file does not need.
fn through_pointers<R: ReadAt + ?Sized>(
    volume: &Volume<'_, R>,
    map: &[u8],
    number: u64,
) -> Result<u64, Errno> {
    const DIRECT: u64 = 12;
    let per_block = volume.block_size / 4;
    let pointer = |block: &[u8], index: u64| {
        let offset = usize::try_from(index * 4).map_err(|_| CORRUPT)?;
        u32_at(block, offset).map(u64::from)
    };
    let Some(indirect) = number.checked_sub(DIRECT) else {
        return pointer(map, number);
    };
    if indirect < per_block {
        return pointer(&volume.block(pointer(map, DIRECT)?)?, indirect);
    }
    let doubly = indirect - per_block;
    let outer = volume.block(pointer(map, DIRECT + 1)?)?;
    // Beyond its end lies what would need one level more: that is an error, too.
    pointer(&volume.block(pointer(&outer, doubly / per_block)?)?, doubly % per_block)
}
