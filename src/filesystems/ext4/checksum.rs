// SPDX-License-Identifier: MIT OR Apache-2.0

//! The checksums of metadata: with `metadata_csum` CRC-32C over all that the reader needs, with the older
//! `uninit_bg` CRC-16 over group descriptors (Documentation/filesystems/ext4/checksums.rst).
//!
//! Two kinds are not looked at: the superblock's and that of the orphan file's blocks. The kernel checks
//! both at mount time only, and brings them up to date later than their contents (the latter at
//! the transaction's commit: `ext4_orphan_file_block_trigger`, fs/ext4/orphan.c).

use std::array;

use crc_fast::CrcAlgorithm::Crc32Iscsi;

use super::format::{dir_entry, dx, extent, group_desc, inode, u8_at, u16_at, u32_at, wide};
use super::volume::Volume;
use crate::sys::crc32c::{LANES, side_by_side};

/// Whether a sum is the one that is stored. A fuzzer would get no further than to the first: to it all are.
fn agree<T: PartialEq + Copy>(stored: T, sum: T) -> bool {
    stored == sum || cfg!(fuzzing)
}

/// Goes on with `state` over `bytes`: `crc32c()` of the kernel, which inverts neither what it begins with nor
/// its result.
fn append(state: u32, bytes: &[u8]) -> u32 {
    let [state, sum] = [(!state).into(), crc_fast::checksum(Crc32Iscsi, bytes)];
    !low(crc_fast::checksum_combine(Crc32Iscsi, state, sum, bytes.len() as u64))
}

/// A sum, of which the library has the lower half in use.
fn low(sum: u64) -> u32 {
    u32::try_from(sum).unwrap_or(0)
}

/// `crc16` of the kernel (lib/crc/crc16.c); there are few descriptors.
fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |sum, &byte| {
        (0..8).fold(sum ^ u16::from(byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0xa001 } else { 0 })
    })
}

/// How group descriptors are summed up.
#[derive(Clone, Copy)]
pub(super) enum Descriptors {
    Unchecked,
    /// From the sum of the UUID on.
    Crc16(u16),
    /// What the volume's seed comes to at the end of a descriptor, and how long one is.
    Crc32c(u32, usize),
}

impl Descriptors {
    pub(super) fn crc16(uuid: &[u8]) -> Self {
        Self::Crc16(crc16(!0, uuid))
    }

    pub(super) fn crc32c(seed: u32, length: u16) -> Self {
        let length = size_of::<u32>() + usize::from(length);
        Self::Crc32c(over_zeros(!seed, length), length)
    }

    /// `ext4_group_desc_csum_verify` (fs/ext4/super.c).
    pub(super) fn is_intact(self, group: u32, raw: &[u8]) -> bool {
        let Some((before, behind)) = raw.split_at_checked(group_desc::BG_CHECKSUM) else { return false };
        let (Ok(stored), Some(behind)) = (u16_at(behind, 0), behind.get(2..)) else { return false };
        let group = group.to_le_bytes();
        match self {
            Self::Unchecked => true,
            Self::Crc16(seed) => agree(stored, [&group, before, behind].into_iter().fold(seed, crc16)),
            Self::Crc32c(seed, length) => {
                let all = [&group, before, &[0; 2], behind].concat();
                all.len() == length && agree(stored.into(), (sum(&all) ^ seed) & LOWER_HALF)
            }
        }
    }
}

const LOWER_HALF: u32 = 0xffff;

/// A linear function of four bytes, by the values of each: sums are linear in all that they are made of.
struct Linear([[u32; 256]; 4]);

impl Linear {
    /// From its values for each bit alone.
    fn new(of: impl Fn(u32) -> u32) -> Self {
        let bits: [u32; 32] = array::from_fn(|bit| of(1 << bit));
        let value = |byte: usize, value: usize| {
            let bits = bits.iter().skip(byte * 8).take(8).enumerate();
            bits.filter(|(bit, _)| value >> bit & 1 == 1).fold(0, |sum, (_, of)| sum ^ of)
        };
        Self(array::from_fn(|byte| array::from_fn(|of| value(byte, of))))
    }

    fn of(&self, value: u32) -> u32 {
        let bytes = value.to_le_bytes();
        (0..4).fold(0, |sum, byte| sum ^ self.0[byte][usize::from(bytes[byte])])
    }
}

/// Sums over pieces of the same length, each from a beginning of its own.
struct Pieces {
    length: usize,
    beginnings: Linear,
}

impl Pieces {
    fn of(length: usize) -> Self {
        Self { length, beginnings: Linear::new(|state| over_zeros(state, length)) }
    }

    /// The same as `append` of a piece of that length, sooner.
    fn append(&self, state: u32, piece: &[u8]) -> u32 {
        sum(piece) ^ self.beginnings.of(!state)
    }
}

/// Sums over inodes, of which there are millions.
struct Inodes {
    length: usize,
    /// What belongs to the seed alone, to an inode's number, its generation, and the sum that stands in it.
    seed: u32,
    number: Linear,
    generation: Linear,
    stored: Linear,
}

impl Inodes {
    fn new(seed: u32, length: usize) -> Self {
        let begun = |seed: u32, number, generation| {
            over_zeros(append(seed, &wide(number, generation).to_le_bytes()), length)
        };
        let nothing = vec![0; length];
        let stored = |stored| {
            let mut raw = nothing.clone();
            Stored { sum: stored, mask: !0 }.put(&mut raw);
            sum(&raw) ^ sum(&nothing)
        };
        Self {
            length,
            // What the library begins with is taken back.
            seed: begun(seed, 0, 0) ^ over_zeros(!0, length),
            number: Linear::new(|number| begun(0, number, 0)),
            generation: Linear::new(|generation| begun(0, 0, generation)),
            stored: Linear::new(stored),
        }
    }

    /// `ext4_inode_csum_verify` (fs/ext4/inode.c); `sum` is that over the whole inode from all ones on.
    fn is_intact(&self, number: u32, raw: &[u8], sum: u32) -> bool {
        let (Some(stored), Ok(generation)) = (Stored::of(raw), u32_at(raw, inode::I_GENERATION)) else {
            return false;
        };
        let own = self.number.of(number) ^ self.generation.of(generation) ^ self.stored.of(stored.sum);
        raw.len() == self.length && stored.is(sum ^ self.seed ^ own)
    }

    /// The sums of four inodes, from all ones on.
    fn sums(&self, raw: [&[u8]; LANES]) -> [u32; LANES] {
        let side_by_side = match self.length {
            128 => words::<16>(raw).and_then(|raw| side_by_side(!0, raw)),
            256 => words::<32>(raw).and_then(|raw| side_by_side(!0, raw)),
            _ => None,
        };
        side_by_side.unwrap_or_else(|| raw.map(sum))
    }
}

/// Four inodes as words, if they have so many.
fn words<const WORDS: usize>(raw: [&[u8]; LANES]) -> Option<[&[[u8; 8]; WORDS]; LANES]> {
    let [a, b, c, d] = raw.map(|raw| raw.as_chunks().0.try_into().ok());
    Some([a?, b?, c?, d?])
}

/// Goes on with `state` over so many zeros, which is the same as beginning with nothing and having `state` in
/// place of the first ones.
fn over_zeros(state: u32, length: usize) -> u32 {
    let mut bytes = vec![0; length];
    let nothing = sum(&bytes);
    match bytes.first_chunk_mut() {
        Some(first) => *first = state.to_le_bytes(),
        None => return append(state, &bytes),
    }
    sum(&bytes) ^ nothing
}

/// The sum over `bytes`, from all ones on.
fn sum(bytes: &[u8]) -> u32 {
    !low(crc_fast::checksum(Crc32Iscsi, bytes))
}

/// With `metadata_csum`: what all sums of a volume need.
pub(super) struct Checksums {
    /// What they begin with, `s_csum_seed`.
    seed: u32,
    inodes: Inodes,
    numbers: Pieces,
    names: Pieces,
}

impl Checksums {
    pub(super) fn new(seed: u32, inode_size: u16, block_size: u64) -> Self {
        let names = usize::try_from(block_size).unwrap_or(0).saturating_sub(dir_entry::TAIL_SIZE);
        Self {
            seed,
            inodes: Inodes::new(seed, inode_size.into()),
            numbers: Pieces::of(size_of::<u64>()),
            names: Pieces::of(names),
        }
    }

    /// The seed of a volume that has none in its superblock.
    pub(super) fn seed_of(uuid: &[u8]) -> u32 {
        append(!0, uuid)
    }

    /// For what belongs to one inode.
    pub(super) fn owner(&self, number: u32, generation: u32) -> Owner<'_> {
        let state = self.numbers.append(self.seed, &wide(number, generation).to_le_bytes());
        Owner { checksums: self, state }
    }

    pub(super) fn is_intact(&self, number: u32, raw: &[u8]) -> bool {
        self.inodes.is_intact(number, raw, sum(raw))
    }

    /// Checks inodes at these `indexes` of a table whose first is number `first`, and marks the damaged ones.
    pub(super) fn check(
        &self,
        first: u32,
        table: &[u8],
        mut indexes: impl Iterator<Item = u32>,
        damaged: &mut [bool],
    ) {
        let inode = |index: u32| {
            let raw = table
                .get(index as usize * self.inodes.length..)
                .and_then(|rest| rest.get(..self.inodes.length));
            raw.unwrap_or_default()
        };
        while let Some(index) = indexes.next() {
            // Where there are no more, the first one stands in for them.
            let group: [u32; LANES] =
                array::from_fn(|lane| if lane == 0 { index } else { indexes.next().unwrap_or(index) });
            let sums = self.inodes.sums(group.map(inode));
            for (index, sum) in group.into_iter().zip(sums) {
                if let Some(damaged) = damaged.get_mut(index as usize) {
                    *damaged = !self.inodes.is_intact(first + index, inode(index), sum);
                }
            }
        }
    }
}

/// The sum in an inode, of which some have the lower half only.
#[derive(Clone, Copy)]
struct Stored {
    sum: u32,
    mask: u32,
}

impl Stored {
    fn of(raw: &[u8]) -> Option<Self> {
        let low = u16_at(raw, inode::I_CHECKSUM_LO).ok()?.into();
        // `EXT4_FITS_IN_INODE`.
        let end = |extra: u16| usize::from(inode::EXT4_GOOD_OLD_INODE_SIZE) + usize::from(extra);
        match (u16_at(raw, inode::I_EXTRA_ISIZE), u16_at(raw, inode::I_CHECKSUM_HI)) {
            (Ok(extra), Ok(high)) if end(extra) >= inode::I_CHECKSUM_HI + 2 => {
                Some(Self { sum: low | u32::from(high) << 16, mask: !0 })
            }
            _ => Some(Self { sum: low, mask: LOWER_HALF }),
        }
    }

    /// Puts it where it stands, as far as there is room.
    fn put(self, raw: &mut [u8]) {
        let [a, b, c, d] = self.sum.to_le_bytes();
        for (at, half) in [(inode::I_CHECKSUM_LO, [a, b]), (inode::I_CHECKSUM_HI, [c, d])] {
            if let Some(field) = raw.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
                *field = half;
            }
        }
    }

    fn is(self, sum: u32) -> bool {
        agree(self.sum, sum & self.mask)
    }
}

/// What the sums over all that belongs to one inode begin with, `i_csum_seed`.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    checksums: &'a Checksums,
    state: u32,
}

impl Owner<'_> {
    /// `ext4_extent_block_csum_verify` (fs/ext4/extents.c): the sum stands behind the last entry for which
    /// there is room.
    pub(super) fn has_extents(self, node: &[u8]) -> bool {
        let most = u16_at(node, extent::EH_MAX).map_or(0, usize::from);
        let tail = extent::SIZE * (most + 1);
        node.get(..tail).is_some_and(|all| agree(stored(node, tail), Some(append(self.state, all))))
    }

    /// A block of a directory. One of a hashed index has its sum elsewhere, and only those are taken for
    /// one that `__ext4_read_dirblock` (fs/ext4/namei.c) takes for one.
    pub(super) fn has_names(self, block: &[u8], number: u32, is_indexed: bool) -> bool {
        let spans = u16_at(block, dir_entry::REC_LEN).is_ok_and(|length| spans(length, block.len()));
        if is_indexed && (number == 0 || spans) { self.has_index(block) } else { self.has_entries(block) }
    }

    /// `ext4_dirblock_csum_verify`.
    fn has_entries(self, block: &[u8]) -> bool {
        let names = &self.checksums.names;
        let Some((all, tail)) = block.split_at_checked(names.length) else { return false };
        tail.starts_with(&dir_entry::TAIL)
            && agree(stored(tail, dir_entry::TAIL.len()), Some(names.append(self.state, all)))
    }

    /// `ext4_dx_csum_verify`.
    fn has_index(self, block: &[u8]) -> bool {
        self.index_sum(block).is_some_and(|(sum, at)| agree(stored(block, at), Some(sum)))
    }

    /// What the sum has to be, and where it stands.
    fn index_sum(self, block: &[u8]) -> Option<(u32, usize)> {
        let entries = if spans(u16_at(block, dir_entry::REC_LEN).ok()?, block.len()) {
            dx::NODE_ENTRIES
        } else {
            let has_info = u8_at(block, dx::INFO_LENGTH).ok()? == dx::ROOT_INFO_SIZE
                && u32_at(block, dx::ROOT_INFO).ok()? == 0
                && usize::from(u16_at(block, dir_entry::REC_LEN).ok()?) == dir_entry::SMALLEST;
            has_info.then_some(dx::ROOT_ENTRIES)?
        };
        let (limit, count) = (u16_at(block, entries).ok()?, u16_at(block, entries + 2).ok()?);
        let end = |entry: u16| entries + usize::from(entry) * dx::ENTRY_SIZE;
        let tail = end(limit);
        // `dt_reserved` counts, the sum itself as zero.
        let (all, reserved) = (block.get(..end(count))?, block.get(tail..tail + dx::TAIL_SIZE / 2)?);
        block.get(tail..tail + dx::TAIL_SIZE)?;
        let sum = [all, reserved, &[0; 4]].into_iter().fold(self.state, append);
        Some((sum, tail + dx::TAIL_SIZE / 2))
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
    pub(super) fn owner(&self, number: u32, generation: u32) -> Option<Owner<'_>> {
        self.checksums().map(|checksums| checksums.owner(number, generation))
    }

    /// Whether an inode's checksum is right, where it has one.
    pub(super) fn is_intact(&self, number: u32, raw: &[u8]) -> bool {
        self.checksums().is_none_or(|checksums| checksums.is_intact(number, raw))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sums_of_the_standards() {
        assert_eq!(!append(!0, b"123456789"), 0xe306_9283, "RFC 3720");
        assert_eq!(crc16(0, b"123456789"), 0xbb3d, "CRC-16/ARC");
    }

    proptest! {
        #[test]
        fn pieces_are_summed_up_as_everything_is(
            state: u32, bytes in prop::collection::vec(any::<u8>(), 1..300)
        ) {
            prop_assert_eq!(Pieces::of(bytes.len()).append(state, &bytes), append(state, &bytes));
            let (head, tail) = bytes.split_at(bytes.len() / 2);
            prop_assert_eq!(append(append(state, head), tail), append(state, &bytes));
        }

        /// Against the definition: the fields count as zero.
        #[test]
        fn an_inode_is_intact_with_the_sum_over_all_else(
            number: u32,
            large: bool,
            extra in (0..40_u16).prop_map(|words| words * 4),
            mut raw in prop::collection::vec(any::<u8>(), 256),
        ) {
            raw.truncate(if large { 256 } else { 128 });
            let checksums = Checksums::new(7, if large { 256 } else { 128 }, 1024);
            if large {
                raw[inode::I_EXTRA_ISIZE..inode::I_EXTRA_ISIZE + 2].copy_from_slice(&extra.to_le_bytes());
            }
            let has_both = large && extra >= 4;
            raw[inode::I_CHECKSUM_LO..][..2].fill(0);
            if has_both {
                raw[inode::I_CHECKSUM_HI..][..2].fill(0);
            }
            let generation = u32_at(&raw, inode::I_GENERATION).unwrap();
            let head = [number.to_le_bytes(), generation.to_le_bytes()].concat();
            let sum = append(append(7, &head), &raw).to_le_bytes();
            raw[inode::I_CHECKSUM_LO..][..2].copy_from_slice(&sum[..2]);
            if has_both {
                raw[inode::I_CHECKSUM_HI..][..2].copy_from_slice(&sum[2..]);
            }
            prop_assert!(checksums.is_intact(number, &raw));
            prop_assert!(!checksums.is_intact(number ^ 1, &raw));
            // The same inode five times over has another number each time; the last is changed by a bit.
            let mut table = raw.repeat(6);
            let last = table.len() - 1;
            table[last] ^= 1;
            let mut damaged = [false; 6];
            checksums.check(number.wrapping_sub(1), &table, [0, 1, 2, 3, 5].into_iter(), &mut damaged);
            prop_assert_eq!(damaged, [true, false, true, true, false, true]);
        }
    }
}
