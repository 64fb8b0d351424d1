// SPDX-License-Identifier: MIT OR Apache-2.0

//! One inode as it stands in its table: `struct ext4_inode`.

use super::error::Error;
use super::format::{flag, inode, wide, xattr_entry};
use super::volume::Volume;
use super::xattr;
use crate::sys::stat::BLOCK_UNIT;

/// The fields are checked to be there once, when it is made.
#[derive(Clone, Copy)]
pub(super) struct Inode<'a> {
    fields: &'a [u8; inode::EXT4_GOOD_OLD_INODE_SIZE as usize],
    /// As long as inodes are on its volume.
    whole: &'a [u8],
}

impl<'a> Inode<'a> {
    pub(super) fn new(whole: &'a [u8]) -> Option<Self> {
        Some(Self { fields: whole.first_chunk()?, whole })
    }

    fn short(self, offset: usize) -> u16 {
        u16::from_le_bytes(std::array::from_fn(|byte| self.fields[offset + byte]))
    }

    fn word(self, offset: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|byte| self.fields[offset + byte]))
    }

    /// Type and permissions; 0 for an inode that has never been written.
    pub(super) fn mode(self) -> u16 {
        self.short(inode::I_MODE)
    }

    fn kind(self) -> u32 {
        u32::from(self.mode()) & libc::S_IFMT
    }

    pub(super) fn is_directory(self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    pub(super) fn is_regular(self) -> bool {
        self.kind() == libc::S_IFREG
    }

    pub(super) fn is_link(self) -> bool {
        self.kind() == libc::S_IFLNK
    }

    /// Whether it is of any kind that there is.
    pub(super) fn has_kind(self) -> bool {
        self.is_regular()
            || self.is_directory()
            || self.is_link()
            || [libc::S_IFCHR, libc::S_IFBLK, libc::S_IFIFO, libc::S_IFSOCK].contains(&self.kind())
    }

    /// How many names it has.
    pub(super) fn links(self) -> u16 {
        self.short(inode::I_LINKS_COUNT)
    }

    /// Tells it from others that have had or will have the same number.
    pub(super) fn generation(self) -> u32 {
        self.word(inode::I_GENERATION)
    }

    pub(super) fn has(self, flag: u32) -> bool {
        self.word(inode::I_FLAGS) & flag != 0
    }

    /// `ext4_isize` (fs/ext4/ext4.h): elsewhere the upper half may mean something else.
    pub(super) fn size(self, volume: &Volume<'_>) -> u64 {
        let wide_enough = self.is_regular() || volume.has_largedir();
        wide(self.word(inode::I_SIZE_LO), if wide_enough { self.word(inode::I_SIZE_HIGH) } else { 0 })
    }

    /// Allocated bytes without what is reported for inline data, as `ext4_inode_blocks`
    /// (fs/ext4/inode.c) reads them.
    pub(super) fn allocated(self, volume: &Volume<'_>) -> u64 {
        let low = self.word(inode::I_BLOCKS_LO);
        if !volume.has_huge_files() {
            return u64::from(low) * BLOCK_UNIT;
        }
        let count = wide(low, self.short(inode::I_BLOCKS_HIGH).into());
        count.saturating_mul(if self.has(flag::HUGE_FILE_FL) { volume.block_size } else { BLOCK_UNIT })
    }

    /// What stat(2) adds for data that lies in the inode itself, where it takes up nothing
    /// (`ext4_file_getattr`, fs/ext4/inode.c).
    pub(super) fn reported_inline(self, volume: &Volume<'_>) -> u64 {
        let counts = self.has(flag::INLINE_DATA_FL) && self.is_regular();
        if counts { self.size(volume).div_ceil(BLOCK_UNIT).saturating_mul(BLOCK_UNIT) } else { 0 }
    }

    /// What stat(2) reports as allocated.
    pub(super) fn reported(self, volume: &Volume<'_>) -> u64 {
        self.allocated(volume).saturating_add(self.reported_inline(volume))
    }

    /// The block with its extended attributes, 0 for none. Others may share it.
    pub(super) fn xattr_block(self, volume: &Volume<'_>) -> u64 {
        let high = if volume.is_64bit() { self.short(inode::I_FILE_ACL_HIGH) } else { 0 };
        wide(self.word(inode::I_FILE_ACL_LO), high.into())
    }

    /// As long as inodes are on its volume.
    pub(super) fn whole(self) -> &'a [u8] {
        self.whole
    }

    /// `i_block`: pointers, extents or inline data.
    pub(super) fn block(self) -> &'a [u8] {
        self.fields.get(inode::I_BLOCK).unwrap_or_default()
    }

    /// What of the inline data does not fit `i_block`: the value of an attribute of its own.
    pub(super) fn more_inline(self) -> Result<&'a [u8], Error> {
        let attributes = xattr::in_inode(self.whole).ok_or(Error::Corrupt)?;
        for entry in attributes.entries() {
            let entry = entry?;
            if entry.index == xattr_entry::EXT4_XATTR_INDEX_SYSTEM
                && entry.name == xattr_entry::EXT4_XATTR_SYSTEM_DATA
            {
                return attributes.value(entry).ok_or(Error::Corrupt);
            }
        }
        Err(Error::Corrupt)
    }
}
