// SPDX-License-Identifier: MIT OR Apache-2.0

//! The group descriptors: where the inodes of each group lie, and which of them can be in use.

use super::error::Error;
use super::format::{group_desc, u16_at, u32_at, wide};
use super::reread::reread_until_stable;
use super::volume::Volume;

/// What has to be read to know all inodes of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The number of its first inode.
    pub(super) first: u32,
    /// How many of its inodes may be in use, from the first on.
    pub(super) used: u32,
    /// The block of the bitmap that says which are.
    pub(super) bitmap: u64,
    /// The block of the bitmap of its blocks.
    pub(super) blocks_bitmap: u64,
    /// The block where their table begins.
    pub(super) table: u64,
}

/// All groups, as they are right now; `UnknownFeatures` where inodes may be made in a way that is not known.
pub(super) fn groups(volume: &Volume<'_>) -> Result<Vec<Group>, Error> {
    if !volume.is_known() {
        return Err(Error::UnknownFeatures);
    }
    let count = volume.group_count()?;
    let size = usize::from(volume.desc_size);
    // Grows with what is there to be read, not with what the superblock says.
    let mut groups = Vec::new();
    while groups.len() < count as usize {
        let number = u32::try_from(groups.len()).map_err(|_| Error::Corrupt)?;
        let block = volume.descriptor_block(number.into())?;
        let missing = count as usize - groups.len();
        let mut read = || {
            groups.truncate(number as usize);
            let block = volume.block(block)?;
            for (raw, number) in block.chunks_exact(size).take(missing).zip(number..) {
                if !volume.desc_sums.is_intact(number, raw) {
                    return Err(Error::Corrupt);
                }
                groups.push(Group::new(volume, raw, number)?);
            }
            Ok(())
        };
        reread_until_stable(volume, &mut read)?;
    }
    // Tables that would not fit the volume side by side lie upon each other.
    let inodes: u64 = groups.iter().map(|group| u64::from(group.used)).sum();
    let fits = inodes * u64::from(volume.inode_size) <= volume.size();
    fits.then_some(groups).ok_or(Error::Corrupt)
}

impl Group {
    /// Number `number`, by its descriptor.
    pub(super) fn new(volume: &Volume<'_>, raw: &[u8], number: u32) -> Result<Self, Error> {
        // The upper halves are there only in large descriptors (`EXT4_MIN_DESC_SIZE_64BIT`).
        let large = raw.len() >= usize::from(group_desc::EXT4_MIN_DESC_SIZE_64BIT);
        let block = |low, high| {
            let high = if large { u32_at(raw, high)? } else { 0 };
            Ok::<_, Error>(wide(u32_at(raw, low)?, high))
        };
        let all = volume.inodes_per_group;
        let mut used = all;
        if volume.has_gdt_csum() {
            let high = if large { u16_at(raw, group_desc::BG_ITABLE_UNUSED_HI)? } else { 0 };
            let unused = u32::from(u16_at(raw, group_desc::BG_ITABLE_UNUSED_LO)?) | u32::from(high) << 16;
            used = all.checked_sub(unused).ok_or(Error::Corrupt)?;
            if u16_at(raw, group_desc::BG_FLAGS)? & group_desc::EXT4_BG_INODE_UNINIT != 0 {
                used = 0;
            }
        }
        Ok(Self {
            first: number * all + 1,
            used,
            blocks_bitmap: block(group_desc::BG_BLOCK_BITMAP_LO, group_desc::BG_BLOCK_BITMAP_HI)?,
            bitmap: block(group_desc::BG_INODE_BITMAP_LO, group_desc::BG_INODE_BITMAP_HI)?,
            table: block(group_desc::BG_INODE_TABLE_LO, group_desc::BG_INODE_TABLE_HI)?,
        })
    }
}
