//! The checksums of metadata: with `metadata_csum` CRC-32C over all that the reader needs, with the older
//! `uninit_bg` CRC-16 over group descriptors (Documentation/filesystems/ext4/checksums.rst).
//!
//! Two kinds are not looked at: the superblock's and that of the orphan file's blocks. The kernel checks
//! both at mount time only, and brings them up to date later than their contents (the latter at
//! the transaction's commit: `ext4_orphan_file_block_trigger`, fs/ext4/orphan.c).

use super::format::{descriptor, entry, extent, index, inode, u8_at, u16_at, u32_at, wide};
use super::volume::Volume;
use crate::sys::crc32c::{LANES, append, append_each};

/// How group descriptors are summed up.
#[derive(Clone, Copy)]
pub(super) enum Descriptors {
    Unchecked,
    /// From the sum of the UUID on.
    Crc16(u16),
    Crc32c(Checksums),
}

impl Descriptors {
    pub(super) fn crc16(uuid: &[u8]) -> Self {
        Self::Crc16(crc16(!0, uuid))
    }

    /// `ext4_group_desc_csum_verify` (fs/ext4/super.c).
    pub(super) fn is_intact(self, group: u32, raw: &[u8]) -> bool {
        let Some((before, behind)) = raw.split_at_checked(descriptor::CHECKSUM) else { return false };
        let (Ok(stored), Some(behind)) = (u16_at(behind, 0), behind.get(2..)) else { return false };
        let group = group.to_le_bytes();
        match self {
            Self::Unchecked => true,
            Self::Crc16(seed) => stored == [&group, before, behind].into_iter().fold(seed, crc16),
            Self::Crc32c(Checksums { seed }) => {
                let sum = [&group, before, &[0; 2], behind].into_iter().fold(seed, append);
                u32::from(stored) == sum & LOWER_HALF
            }
        }
    }
}

/// `crc16` of the kernel (lib/crc/crc16.c); there are few descriptors.
fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |sum, &byte| {
        (0..8).fold(sum ^ u16::from(byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0xa001 } else { 0 })
    })
}

const LOWER_HALF: u32 = 0xffff;

/// With `metadata_csum`: what all sums begin with, `s_csum_seed`.
#[derive(Clone, Copy)]
pub(super) struct Checksums {
    seed: u32,
}

impl Checksums {
    /// From the seed in the superblock.
    pub(super) fn new(seed: u32) -> Self {
        Self { seed }
    }

    pub(super) fn of_uuid(uuid: &[u8]) -> Self {
        Self { seed: append(!0, uuid) }
    }

    /// For what belongs to one inode.
    pub(super) fn owner(self, number: u32, generation: u32) -> Owner {
        Owner(append(self.seed, &wide(number, generation).to_le_bytes()))
    }

    /// Checks some of the inodes of a table whose first is number `first`, and marks in `damaged` those
    /// that fail, by their places. The room for the sums in the table is left zeroed.
    pub(super) fn check_inodes(
        self,
        first: u32,
        table: &mut [u8],
        size: usize,
        mut places: impl Iterator<Item = u32>,
        damaged: &mut [bool],
    ) {
        loop {
            let mut lanes = [0; LANES];
            let mut count = 0;
            for (lane, place) in lanes.iter_mut().zip(&mut places) {
                *lane = place;
                count += 1;
            }
            // What is left over repeats the first one.
            let (Some(&place), true) = (lanes.first(), count > 0) else { return };
            lanes.iter_mut().skip(count).for_each(|lane| *lane = place);
            self.check_four(first, table, size, lanes, count, damaged);
        }
    }

    fn check_four(
        self,
        first: u32,
        table: &mut [u8],
        size: usize,
        places: [u32; LANES],
        count: usize,
        damaged: &mut [bool],
    ) {
        let mut stored = [Stored::default(); LANES];
        for (place, stored) in places.iter().zip(&mut stored).take(count) {
            let raw = table.get_mut(*place as usize * size..).and_then(|rest| rest.get_mut(..size));
            *stored = raw.map(Stored::take).unwrap_or_default();
        }
        let words = |place: u32| -> &[[u8; 8]] {
            let raw = table.get(place as usize * size..).and_then(|rest| rest.get(..size));
            raw.unwrap_or_default().as_chunks().0
        };
        let heads = places.map(|place| {
            let generation =
                table.get(place as usize * size..).and_then(|raw| u32_at(raw, inode::GENERATION).ok());
            wide(first + place, generation.unwrap_or(0)).to_le_bytes()
        });
        let heads = append_each([self.seed; LANES], heads.each_ref().map(std::slice::from_ref));
        let sums = append_each(heads, places.map(words));
        for ((place, stored), sum) in places.iter().zip(stored).zip(sums).take(count) {
            if let Some(damaged) = damaged.get_mut(*place as usize) {
                *damaged = !stored.is(sum);
            }
        }
    }

    /// `ext4_inode_csum_verify` (fs/ext4/inode.c).
    pub(super) fn is_intact(self, number: u32, raw: &[u8]) -> bool {
        let mut raw = raw.to_vec();
        let stored = Stored::take(&mut raw);
        u32_at(&raw, inode::GENERATION)
            .is_ok_and(|generation| stored.is(append(self.owner(number, generation).0, &raw)))
    }
}

/// The sum in an inode, of which some have the lower half only.
#[derive(Clone, Copy, Default)]
struct Stored {
    sum: u32,
    mask: u32,
}

impl Stored {
    /// Takes the sum out, so that the rest can be summed up.
    fn take(raw: &mut [u8]) -> Self {
        let mut half = |at: usize| {
            let place: Option<&mut [u8; 2]> = raw.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
            place.map_or(0, |place| u32::from(u16::from_le_bytes(std::mem::take(place))))
        };
        let low = half(inode::CHECKSUM_LO);
        let extra = raw.get(inode::EXTRA_SIZE..).and_then(<[u8]>::first_chunk);
        let extra = extra.map_or(0, |extra| usize::from(u16::from_le_bytes(*extra)));
        // `EXT4_FITS_IN_INODE`.
        if usize::from(inode::SMALLEST) + extra < inode::CHECKSUM_HI + 2 {
            return Self { sum: low, mask: LOWER_HALF };
        }
        let place: Option<&mut [u8; 2]> = raw.get_mut(inode::CHECKSUM_HI..).and_then(<[u8]>::first_chunk_mut);
        let high = place.map_or(0, |place| u32::from(u16::from_le_bytes(std::mem::take(place))));
        Self { sum: low | high << 16, mask: !0 }
    }

    fn is(self, sum: u32) -> bool {
        sum & self.mask == self.sum
    }
}

/// What the sums over all that belongs to one inode begin with, `i_csum_seed`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner(u32);

impl Owner {
    /// `ext4_extent_block_csum_verify` (fs/ext4/extents.c): the sum stands behind the last entry for which
    /// there is room.
    pub(super) fn has_extents(self, node: &[u8]) -> bool {
        let most = u16_at(node, extent::MOST_ENTRIES).map_or(0, usize::from);
        self.ends(node, extent::SIZE * (most + 1))
    }

    /// A block of a directory. One of a hashed index has its sum elsewhere, and only those are taken for
    /// one that `__ext4_read_dirblock` (fs/ext4/namei.c) takes for one.
    pub(super) fn has_names(self, block: &[u8], number: u32, is_indexed: bool) -> bool {
        let spans = u16_at(block, entry::LENGTH).is_ok_and(|length| spans(length, block.len()));
        if is_indexed && (number == 0 || spans) { self.has_index(block) } else { self.has_entries(block) }
    }

    /// `ext4_dirblock_csum_verify`.
    fn has_entries(self, block: &[u8]) -> bool {
        let tail = block.len().saturating_sub(entry::TAIL_SIZE);
        let is_tail = block.get(tail..).is_some_and(|rest| rest.starts_with(&entry::TAIL));
        is_tail && stored(block, tail + entry::TAIL.len()) == block.get(..tail).map(|all| append(self.0, all))
    }

    /// `ext4_dx_csum_verify`.
    fn has_index(self, block: &[u8]) -> bool {
        self.index_sum(block).is_some_and(|(sum, at)| stored(block, at) == Some(sum))
    }

    /// What the sum has to be, and where it stands.
    fn index_sum(self, block: &[u8]) -> Option<(u32, usize)> {
        let entries = if spans(u16_at(block, entry::LENGTH).ok()?, block.len()) {
            index::NODE_ENTRIES
        } else {
            let has_info = u8_at(block, index::ROOT_INFO_LENGTH).ok()? == index::ROOT_INFO_SIZE
                && u32_at(block, index::ROOT_INFO).ok()? == 0
                && usize::from(u16_at(block, entry::LENGTH).ok()?) == entry::SMALLEST;
            has_info.then_some(index::ROOT_ENTRIES)?
        };
        let (limit, count) = (u16_at(block, entries).ok()?, u16_at(block, entries + 2).ok()?);
        let end = |entry: u16| entries + usize::from(entry) * index::ENTRY_SIZE;
        let tail = end(limit);
        // `dt_reserved` counts, the sum itself as zero.
        let (all, reserved) = (block.get(..end(count))?, block.get(tail..tail + index::TAIL_SIZE / 2)?);
        block.get(tail..tail + index::TAIL_SIZE)?;
        let sum = [all, reserved, &[0; 4]].into_iter().fold(self.0, append);
        Some((sum, tail + index::TAIL_SIZE / 2))
    }

    /// Whether the sum of all before it stands there.
    fn ends(self, block: &[u8], at: usize) -> bool {
        block.get(..at).is_some_and(|all| stored(block, at) == Some(append(self.0, all)))
    }
}

fn stored(block: &[u8], at: usize) -> Option<u32> {
    u32_at(block, at).ok()
}

/// Whether an entry of that length takes up the whole block: `ext4_rec_len_from_disk`.
fn spans(length: u16, block: usize) -> bool {
    usize::from(length) == block || block == 1 << 16 && (length == 0 || length == u16::MAX)
}

impl Volume<'_> {
    /// What the sums over an inode's own blocks begin with, where there are any.
    pub(super) fn owner(&self, number: u32, generation: u32) -> Option<Owner> {
        self.checksums.map(|checksums| checksums.owner(number, generation))
    }
}
