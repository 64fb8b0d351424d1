// SPDX-License-Identifier: MIT OR Apache-2.0

//! The two places in which ext4 notes its orphans: the chain and the orphan file.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use rustc_hash::FxHashSet;

use super::block_map::{self, Budget};
use super::error::Error;
use super::format::u32_at;
use super::inode::Inode;
use super::volume::Volume;

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

/// All inodes that are noted as orphans, each once. Whatever was one during the whole call is
/// among them. `pause` lies between the passes through the chain.
pub(super) fn list(volume: &Volume<'_>, pause: Duration) -> Result<BTreeSet<u32>, Error> {
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
fn chains(volume: &Volume<'_>, pause: Duration, found: &mut BTreeSet<u32>) -> Result<(), Error> {
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
            Err(Error::Changed | Error::Corrupt) => {}
            Err(error) => return Err(error),
        }
    }
    last
}

/// Follows the chain once, to its end. The pointer to an inode is read again once the inode has
/// been: if it is still there, then the inode was in the chain, and what it said of the next was true.
/// An inode that leaves the chain would otherwise end it too early (`ext4_orphan_del` clears its pointer,
/// and the time of its deletion takes that place).
fn chain(volume: &Volume<'_>, found: &mut BTreeSet<u32>) -> Result<(), Error> {
    let mut passed = FxHashSet::default();
    let mut previous = None;
    let next_of = |inode: Option<u32>| match inode {
        None => volume.last_orphan(),
        Some(inode) => volume.next_orphan(inode),
    };
    let mut current = next_of(None)?;
    while current != 0 {
        if !volume.is_inode(current) || !passed.insert(current) {
            return Err(Error::Corrupt);
        }
        let next = next_of(Some(current))?;
        if next_of(previous)? != current {
            return Err(Error::Changed);
        }
        found.insert(current);
        (previous, current) = (Some(current), next);
    }
    Ok(())
}

/// Reads the numbers in all blocks of the orphan file. Each has its place as long as it is there.
fn orphan_file(volume: &Volume<'_>, file: u32, found: &mut BTreeSet<u32>) -> Result<(), Error> {
    let raw = volume.inode(file)?;
    let inode = Inode::new(&raw).ok_or(Error::Corrupt)?;
    let size = inode.size(volume);
    if size > LARGEST_FILE {
        return Err(Error::Corrupt);
    }
    let mut runs = Vec::new();
    block_map::runs(volume, file, inode, &Budget::of(volume), |run| runs.push(run))?;
    let blocks = runs.into_iter().flat_map(|run| run.start..run.start + run.length);
    let mut left = size / volume.block_size;
    for block in blocks.take(usize::try_from(left).map_err(|_| Error::Corrupt)?) {
        let block = volume.block(block)?;
        left -= 1;
        let (numbers, tail) = block.split_at(block.len() - TAIL_SIZE);
        if u32_at(tail, 0)? != TAIL_MAGIC {
            return Err(Error::Corrupt);
        }
        for number in numbers.chunks_exact(4) {
            match u32_at(number, 0)? {
                0 => {}
                inode if volume.is_inode(inode) => {
                    found.insert(inode);
                }
                _ => return Err(Error::Corrupt),
            }
        }
    }
    // It has no holes.
    if left == 0 { Ok(()) } else { Err(Error::Corrupt) }
}
