// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the filesystem keeps for itself in inodes without a name, and what stat(2) reports more than
//! once, or though it takes up nothing.

use std::collections::BTreeMap;

use super::error::Error;
use super::format::flag;
use super::inode::Inode;
use super::volume::Volume;
use super::xattr;
use crate::model::bytes::Bytes;
use crate::model::ledger::Term;

/// The root directory. Its number and the others that are fixed: fs/ext4/ext4.h, and
/// `lib/ext2fs/ext2_fs.h` of e2fsprogs.
pub(super) const ROOT: u32 = 2;
pub(super) const BAD_BLOCKS: u32 = 1;
const RESIZE: u32 = 7;
const JOURNAL: u32 = 8;
const FIXED: [(u32, &str); 9] = [
    (BAD_BLOCKS, BAD_BLOCKS_MAP),
    (3, USER_QUOTA),
    (4, GROUP_QUOTA),
    (5, "boot loader inode"),
    (6, "undelete inode"),
    (RESIZE, RESIZE_INODE),
    (JOURNAL, "journal that is not in use"),
    (9, "exclude inode"),
    (LAST_FIXED, "replica inode"),
];
const LAST_FIXED: u32 = 10;
/// Counted by where they lie: `overhead::bad_blocks`.
pub(super) const BAD_BLOCKS_MAP: &str = "bad blocks";
const RESIZE_INODE: &str = "resize inode";
const USER_QUOTA: &str = "user quota";
const GROUP_QUOTA: &str = "group quota";
/// The journal itself is outside of what `df` counts (`ext4_calculate_overhead`, fs/ext4/super.c).
const JOURNAL_MAP: &str = "map of the journal";

/// What an inode in use is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A file or directory with a name.
    Named,
    /// One that has lost its names, or never had any.
    Nameless,
    /// The value of extended attributes.
    EaInode,
    /// One of those that the filesystem keeps for itself.
    Reserved(&'static str),
    /// None: it is just being made.
    Nothing,
}

impl Role {
    pub(super) fn of(volume: &Volume<'_>, number: u32, inode: Inode<'_>) -> Self {
        if number == ROOT {
            return Self::Named;
        }
        if let Some(name) = reserved_name(volume, number) {
            return Self::Reserved(name);
        }
        if inode.has(flag::EA_INODE_FL) {
            Self::EaInode
        } else if inode.links() > 0 {
            Self::Named
        } else if inode.mode() != 0 {
            Self::Nameless
        } else {
            Self::Nothing
        }
    }
}

fn reserved_name(volume: &Volume<'_>, number: u32) -> Option<&'static str> {
    let [users, groups, projects] = volume.quotas;
    let (journal, orphan_file) = (volume.journal, volume.orphan_file.unwrap_or(0));
    let told = [users, groups, projects, journal, orphan_file];
    // Asked for each of millions of inodes: nearly all are none of these.
    if number >= volume.first_inode && number > LAST_FIXED && !told.contains(&number) {
        return None;
    }
    let names = [USER_QUOTA, GROUP_QUOTA, "project quota", JOURNAL_MAP, "orphan file"];
    let mut reserved = told.into_iter().zip(names).chain(FIXED);
    let name = reserved.find(|&(fixed, _)| fixed == number).map(|(_, name)| name);
    name.or_else(|| (number < volume.first_inode).then_some("reserved inode"))
}

/// The amounts, in bytes.
#[derive(Debug, Default)]
pub(super) struct InternalUse {
    inodes: BTreeMap<&'static str, u64>,
    /// Values of extended attributes: what they take up, and what is charged to those whose inodes lead
    /// to them.
    values: u64,
    charged: u64,
    /// What stat(2) reports for data in inodes.
    inline: u64,
    /// Blocks of extended attributes, and how many inodes have one.
    blocks: Vec<Shared>,
    owners: u64,
}

/// A block of extended attributes in the upper 48 bits, which is what a block number has (`i_file_acl_lo`,
/// `i_file_acl_high`), and in the others how many inodes have it: the kernel lets no more than
/// `EXT4_XATTR_REFCOUNT_MAX` (fs/ext4/xattr.h), 1024, share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shared(u64);

impl Shared {
    fn new(block: u64) -> Self {
        Self(block << u16::BITS | 1)
    }

    fn block(self) -> u64 {
        self.0 >> u16::BITS
    }

    fn owners(self) -> u64 {
        self.0 & u64::from(u16::MAX)
    }

    /// Adds the owners of `other` if it is the same block.
    fn merge(&mut self, other: Self) -> bool {
        let is_same = self.block() == other.block();
        if is_same {
            let owners = (self.owners() + other.owners()).min(u16::MAX.into());
            self.0 = self.block() << u16::BITS | owners;
        }
        is_same
    }
}

impl InternalUse {
    pub(super) fn add(&mut self, volume: &Volume<'_>, role: Role, inode: Inode<'_>) {
        let allocated = inode.allocated(volume);
        match role {
            Role::Reserved(name) => {
                let bytes = match name {
                    BAD_BLOCKS_MAP => 0,
                    // The blocks that it holds back for descriptors are outside of what `df` counts; the
                    // one that points to them is not.
                    RESIZE_INODE => allocated.min(volume.cluster_size),
                    JOURNAL_MAP => allocated.saturating_sub(volume.in_clusters(inode.size(volume))),
                    _ => allocated,
                };
                self.count(name, bytes);
            }
            Role::EaInode => {
                self.values = self.values.saturating_add(allocated);
            }
            Role::Named | Role::Nameless => {
                self.inline = self.inline.saturating_add(inode.reported_inline(volume));
            }
            Role::Nothing => return,
        }
        let block = inode.xattr_block(volume);
        if block != 0 {
            self.owners += 1;
            self.blocks.push(Shared::new(block));
        }
        if volume.has_ea_inodes() {
            let charged = xattr::charged(volume, xattr::in_inode(inode.whole()));
            self.charged = self.charged.saturating_add(charged);
        }
    }

    fn count(&mut self, name: &'static str, bytes: u64) {
        let sum = self.inodes.entry(name).or_default();
        *sum = sum.saturating_add(bytes);
    }

    /// Takes in what was found in one group. Inodes that share a block mostly lie near each other.
    pub(super) fn take(&mut self, mut other: Self) {
        other.compact();
        for (name, bytes) in other.inodes {
            self.count(name, bytes);
        }
        self.values = self.values.saturating_add(other.values);
        self.charged = self.charged.saturating_add(other.charged);
        self.inline = self.inline.saturating_add(other.inline);
        self.blocks.append(&mut other.blocks);
        self.owners += other.owners;
    }

    fn compact(&mut self) {
        self.blocks.sort_unstable();
        self.blocks.dedup_by(|next, kept| kept.merge(*next));
    }

    /// What is allocated, but to no file.
    pub(super) fn metadata(&self, volume: &Volume<'_>) -> Vec<Term> {
        let mut terms: Vec<Term> = self.inodes.iter().map(|(&name, &bytes)| term(name, bytes)).collect();
        terms.push(term("values of extended attributes", self.values));
        let mmp = if volume.has_mmp_block() { volume.cluster_size } else { 0 };
        terms.push(term("multiple mount protection", mmp));
        terms.retain(|term| term.bytes != Bytes::ZERO);
        terms
    }

    /// What files report, but share with others, or do not take up.
    pub(super) fn shared(&mut self, volume: &Volume<'_>) -> Result<Vec<Term>, Error> {
        self.compact();
        let more = self.owners.saturating_sub(self.blocks.len() as u64);
        let charged = self.charged.saturating_add(self.charged_in_blocks(volume)?);
        let mut terms = vec![
            term("blocks of extended attributes", more.saturating_mul(volume.cluster_size)),
            term("values of extended attributes", charged),
            term("data in inodes", self.inline),
        ];
        terms.retain(|term| term.bytes != Bytes::ZERO);
        Ok(terms)
    }

    /// What is charged for values that blocks of attributes lead to: to each inode that has the block. What
    /// the value's inode says of its references is no help: it counts the blocks, not their owners.
    fn charged_in_blocks(&self, volume: &Volume<'_>) -> Result<u64, Error> {
        /// So many blocks are asked for at once.
        const AHEAD: usize = 64;
        if !volume.has_ea_inodes() {
            return Ok(0);
        }
        let (mut sum, mut buffer) = (0_u64, Vec::new());
        for blocks in self.blocks.chunks(AHEAD) {
            for block in blocks {
                volume.announce(block.block(), 0, volume.block_size);
            }
            for block in blocks {
                let charged = xattr::charged_in_block(volume, block.block(), &mut buffer)?;
                sum = sum.saturating_add(charged.saturating_mul(block.owners()));
            }
        }
        Ok(sum)
    }
}

fn term(name: &'static str, bytes: u64) -> Term {
    Term { name, bytes: Bytes(bytes) }
}
