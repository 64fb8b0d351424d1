// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the kernel checks before it lets an inode in: `__ext4_iget` (fs/ext4/inode.c, Linux 6.18). An
//! inode that fails is answered with `EUCLEAN`, or `EBADMSG` where its checksum is wrong, by stat(2) and
//! all else that takes a name.
//!
//! Older kernels check less: what only a newer one refuses is damaged all the same.

use nix::errno::Errno;

use super::block_map::{self, Run};
use super::block_validity::SystemZone;
use super::error::Error;
use super::format::{flag, inode, u16_at};
use super::inode::Inode;
use super::reserved_inodes::Role;
use super::volume::Volume;
use super::xattr;

/// What is wrong with an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadInode {
    /// It makes no sense.
    Corrupt,
    /// Its checksum is wrong.
    Checksum,
}

impl BadInode {
    /// What the kernel answers to whoever asks for it: `EFSCORRUPTED`, `EFSBADCRC`.
    pub(super) fn errno(self) -> Errno {
        match self {
            Self::Corrupt => Errno::EUCLEAN,
            Self::Checksum => Errno::EBADMSG,
        }
    }
}

/// What it takes to check the inodes of a volume.
pub(super) struct Iget<'a> {
    pub(super) volume: &'a Volume<'a>,
    zone: SystemZone,
    /// The largest size of what is mapped by extents and by pointers.
    largest: [u64; 2],
}

impl<'a> Iget<'a> {
    pub(super) fn new(volume: &'a Volume<'a>) -> Result<Self, Error> {
        let largest = [largest_by_extents(volume), largest_by_pointers(volume)];
        Ok(Self { volume, zone: SystemZone::read(volume)?, largest })
    }

    /// Checks an inode of this role.
    pub(super) fn check(&self, role: Role, number: u32, inode: Inode<'_>) -> Result<(), BadInode> {
        self.check_summed(role, inode, self.volume.is_intact(number, inode.whole()))
    }

    /// The same of one whose checksum has been looked at.
    pub(super) fn check_summed(&self, role: Role, inode: Inode<'_>, is_intact: bool) -> Result<(), BadInode> {
        match role {
            // Free, or just being made.
            Role::Nothing => Ok(()),
            // Most of them have never been written, and the kernel has none of those.
            Role::Reserved(_) if inode.whole().iter().all(|&byte| byte == 0) => Ok(()),
            _ if !is_intact => Err(BadInode::Checksum),
            // What the kernel uses of these it has checked when it was mounted. They may lie where no file may.
            Role::Reserved(_) => Ok(()),
            Role::Named | Role::Nameless | Role::EaInode if self.makes_sense(inode) => Ok(()),
            Role::Named | Role::Nameless | Role::EaInode => Err(BadInode::Corrupt),
        }
    }

    /// Whether a directory may have these blocks.
    pub(super) fn allows(&self, run: Run) -> bool {
        self.zone.allows(run)
    }

    fn makes_sense(&self, inode: Inode<'_>) -> bool {
        let volume = self.volume;
        let has_extents = inode.has(flag::EXTENTS_FL);
        let block = inode.xattr_block(volume);
        inode.has_kind()
            && inode.size(volume) <= self.largest[usize::from(!has_extents)]
            && !(has_extents && inode.has(flag::INLINE_DATA_FL))
            && (block == 0 || self.zone.allows(Run { start: block, length: 1 }))
            && (volume.has_case_folding() || !inode.has(flag::CASEFOLD_FL))
            && !(volume.checksums().is_some() && inode.has(flag::INDEX_FL) && !volume.has_indexes())
            && self.has_sound_attributes(inode)
            && self.has_sound_map(inode)
            && self.is_sound_link(inode)
            // More than there is; a little more may be charged to one for attributes that it shares.
            && inode.reported(volume) / 2 <= volume.size()
    }

    fn has_sound_attributes(&self, inode: Inode<'_>) -> bool {
        let whole = inode.whole();
        let Ok(extra) = u16_at(whole, inode::I_EXTRA_ISIZE) else { return true };
        if !extra.is_multiple_of(4)
            || usize::from(inode::EXT4_GOOD_OLD_INODE_SIZE + extra.min(1 << 12)) > whole.len()
        {
            return false;
        }
        let attributes = xattr::in_inode(whole).filter(|_| extra > 0);
        attributes.is_none_or(|attributes| attributes.are_sound(self.volume))
    }

    /// What is mapped in the inode itself: `ext4_ext_check_inode` and `ext4_ind_check_inode`.
    fn has_sound_map(&self, inode: Inode<'_>) -> bool {
        let is_mapped =
            inode.is_regular() || inode.is_directory() || inode.is_link() && !self.is_fast_link(inode);
        if !is_mapped || inode.has(flag::INLINE_DATA_FL) && inode.more_inline().is_ok() {
            return true;
        }
        if inode.has(flag::EXTENTS_FL) {
            return block_map::is_sound_root(inode.block(), |run| self.zone.allows(run));
        }
        // Those that lead to further pointers are not looked at.
        inode.block().as_chunks().0.iter().take(block_map::DIRECT).all(|&pointer| {
            let start = u32::from_le_bytes(pointer).into();
            start == 0 || self.zone.allows(Run { start, length: 1 })
        })
    }

    /// `ext4_inode_is_fast_symlink`: one that has its target in place of the map.
    fn is_fast_link(&self, inode: Inode<'_>) -> bool {
        if self.volume.has_ea_inodes() {
            return (1..inode.block().len() as u64).contains(&inode.size(self.volume));
        }
        let has_block = inode.xattr_block(self.volume) != 0;
        let shared = if has_block { self.volume.cluster_size } else { 0 };
        !inode.has(flag::INLINE_DATA_FL) && inode.allocated(self.volume) == shared
    }

    fn is_sound_link(&self, inode: Inode<'_>) -> bool {
        if !inode.is_link() {
            return true;
        }
        if inode.has(flag::IMMUTABLE_FL) || inode.has(flag::APPEND_FL) {
            return false;
        }
        // That of a deleted one may be gone already.
        let is_checked = inode.links() > 0 && !inode.has(flag::ENCRYPT_FL) && self.is_fast_link(inode);
        let length = inode.block().iter().position(|&byte| byte == 0);
        !is_checked || length.is_some_and(|length| length > 0 && length as u64 == inode.size(self.volume))
    }
}

/// `ext4_max_size` (fs/ext4/super.c).
fn largest_by_extents(volume: &Volume<'_>) -> u64 {
    let by_number = u64::from(u32::MAX).saturating_mul(volume.block_size);
    by_number.min(sectors_in_blocks(volume).saturating_mul(volume.block_size)).min(LARGEST_FILE)
}

/// `MAX_LFS_FILESIZE` (include/linux/fs.h), where longs have 64 bits.
const LARGEST_FILE: u64 = i64::MAX.unsigned_abs();

/// How many blocks an inode without `huge_file` can count, and with it more than there can be.
fn sectors_in_blocks(volume: &Volume<'_>) -> u64 {
    if volume.has_huge_files() { u64::MAX } else { u64::from(u32::MAX) / (volume.block_size / 512) }
}

/// `ext4_max_bitmap_size` (fs/ext4/super.c).
fn largest_by_pointers(volume: &Volume<'_>) -> u64 {
    const DIRECT: u64 = 12;
    let pointers = volume.block_size / 4;
    let square = pointers * pointers;
    let all = DIRECT + pointers + square + square * pointers;
    let maps = 1 + (1 + pointers) + (1 + pointers + square);
    let limit = if volume.has_huge_files() { (1 << 48) - 1 } else { sectors_in_blocks(volume) };
    let blocks = if all + maps <= limit {
        all
    } else {
        let behind_single = limit - DIRECT - pointers;
        let maps = match behind_single.checked_sub(square) {
            None => 1 + 1 + behind_single.div_ceil(pointers),
            Some(rest) => 1 + (1 + pointers) + 1 + rest.div_ceil(pointers) + rest.div_ceil(square),
        };
        limit - maps
    };
    blocks.saturating_mul(volume.block_size).min(LARGEST_FILE)
}
