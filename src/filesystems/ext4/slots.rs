// SPDX-License-Identifier: MIT OR Apache-2.0

//! What has to be known of an inode when one of its names is met: two bytes each, so that millions
//! of them take little memory.

use std::sync::atomic::{AtomicU16, Ordering};

use super::error::Error;
use crate::sys::stat::BLOCK_UNIT;

/// Bits of a slot. The others are the allocated sectors, and one: a slot of zero is an inode that does
/// not count.
const DIRECTORY: u16 = 1 << 15;
/// It has several names.
const SEVERAL: u16 = 1 << 14;
/// One of its names has been met.
const SEEN: u16 = 1 << 13;
const SECTORS: u16 = SEEN - 1;
/// So many sectors do not fit: they are kept elsewhere.
const LARGE: u16 = SECTORS;

/// An inode as a name leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownInode {
    pub(super) is_directory: bool,
    pub(super) has_several_names: bool,
    /// Whether this is the first of its names that was met.
    pub(super) is_new: bool,
    /// As stat(2) reports it.
    pub(super) allocated: u64,
}

/// The slots of one group's inodes, as far as they are in use.
#[derive(Debug, Default)]
pub(super) struct GroupSlots {
    group: u32,
    slots: Vec<AtomicU16>,
    large: Vec<(u32, u64)>,
}

impl GroupSlots {
    pub(super) fn new(group: u32) -> Self {
        Self { group, ..Self::default() }
    }

    pub(super) fn is_of(&self, group: u32) -> bool {
        self.group == group
    }

    /// Notes the inode that is number `index` in its group.
    pub(super) fn note(&mut self, index: u32, allocated: u64, is_directory: bool, has_several_names: bool) {
        let sectors = allocated / BLOCK_UNIT;
        let mut slot = u16::try_from(sectors + 1).ok().filter(|&slot| slot < LARGE).unwrap_or(LARGE);
        if slot == LARGE {
            let position = self.large.partition_point(|&(other, _)| other < index);
            self.large.insert(position, (index, allocated));
        }
        slot |= if is_directory { DIRECTORY } else { 0 };
        slot |= if has_several_names { SEVERAL } else { 0 };
        // Inodes come in the order of their numbers, but for those that had to be looked at again.
        if let Some(earlier) = self.slots.get_mut(index as usize) {
            *earlier = AtomicU16::new(slot);
        } else {
            self.slots.resize_with(index as usize, AtomicU16::default);
            self.slots.push(AtomicU16::new(slot));
        }
    }

    fn meet(&self, index: u32) -> Option<KnownInode> {
        let slot = self.slots.get(index as usize)?;
        if slot.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let slot = slot.fetch_or(SEEN, Ordering::Relaxed);
        let allocated = match slot & SECTORS {
            LARGE => {
                let position = self.large.binary_search_by_key(&index, |&(index, _)| index).ok()?;
                self.large.get(position)?.1
            }
            sectors => u64::from(sectors - 1) * BLOCK_UNIT,
        };
        Some(KnownInode {
            is_directory: slot & DIRECTORY != 0,
            has_several_names: slot & SEVERAL != 0,
            is_new: slot & SEEN == 0,
            allocated,
        })
    }
}

/// All inodes with names.
#[derive(Debug)]
pub(super) struct Slots {
    groups: Vec<GroupSlots>,
    per_group: u32,
}

impl Slots {
    pub(super) fn new(parts: Vec<GroupSlots>, groups: usize, per_group: u32) -> Result<Self, Error> {
        let mut all = Vec::new();
        all.resize_with(groups, GroupSlots::default);
        for mut part in parts {
            part.slots.shrink_to_fit();
            let position = all.get_mut(part.group as usize).ok_or(Error::Corrupt)?;
            *position = part;
        }
        Ok(Self { groups: all, per_group })
    }

    /// A name leads to this inode. `None` if that was free, or had no name, when its table was read.
    pub(super) fn meet(&self, inode: u32) -> Option<KnownInode> {
        let index = inode.checked_sub(1)?;
        self.groups.get((index / self.per_group) as usize)?.meet(index % self.per_group)
    }
}
