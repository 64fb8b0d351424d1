// SPDX-License-Identifier: MIT OR Apache-2.0

//! What lies where in the structures of ext2, ext3 and ext4: fs/ext4/ext4.h and
//! Documentation/filesystems/ext4. Numbers are little-endian.

use super::error::Error;

/// `struct ext4_super_block`: where it starts, and the offsets of its fields.
pub(super) mod superblock {
    pub const START: u64 = 1024;
    pub const SIZE: usize = 1024;
    pub const EXT4_SUPER_MAGIC: u16 = 0xef53;

    pub const S_INODES_COUNT: usize = 0x00;
    pub const S_BLOCKS_COUNT_LO: usize = 0x04;
    pub const S_R_BLOCKS_COUNT_LO: usize = 0x08;
    pub const S_FIRST_DATA_BLOCK: usize = 0x14;
    pub const S_LOG_BLOCK_SIZE: usize = 0x18;
    pub const S_LOG_CLUSTER_SIZE: usize = 0x1c;
    pub const S_BLOCKS_PER_GROUP: usize = 0x20;
    pub const S_INODES_PER_GROUP: usize = 0x28;
    pub const S_MAGIC: usize = 0x38;
    pub const S_CREATOR_OS: usize = 0x48;
    pub const S_REV_LEVEL: usize = 0x4c;
    pub const S_FIRST_INO: usize = 0x54;
    pub const S_INODE_SIZE: usize = 0x58;
    pub const S_FEATURE_COMPAT: usize = 0x5c;
    pub const S_FEATURE_INCOMPAT: usize = 0x60;
    pub const S_FEATURE_RO_COMPAT: usize = 0x64;
    pub const S_UUID: std::ops::Range<usize> = 0x68..0x78;
    pub const S_RESERVED_GDT_BLOCKS: usize = 0xce;
    pub const S_JOURNAL_INUM: usize = 0xe0;
    pub const S_LAST_ORPHAN: usize = 0xe8;
    pub const S_DESC_SIZE: usize = 0xfe;
    pub const S_FIRST_META_BG: usize = 0x104;
    pub const S_BLOCKS_COUNT_HI: usize = 0x150;
    pub const S_R_BLOCKS_COUNT_HI: usize = 0x154;
    pub const S_USR_QUOTA_INUM: usize = 0x240;
    pub const S_GRP_QUOTA_INUM: usize = 0x244;
    pub const S_OVERHEAD_CLUSTERS: usize = 0x248;
    pub const S_BACKUP_BGS: usize = 0x24c;
    pub const S_PRJ_QUOTA_INUM: usize = 0x26c;
    pub const S_CHECKSUM_SEED: usize = 0x270;
    pub const S_ORPHAN_FILE_INUM: usize = 0x280;

    /// In `s_creator_os`.
    pub const EXT4_OS_LINUX: u32 = 0;
}

/// `s_feature_compat`, `s_feature_incompat`, `s_feature_ro_compat`.
pub(super) mod feature {
    pub const COMPAT_HAS_JOURNAL: u32 = 0x4;
    pub const COMPAT_DIR_INDEX: u32 = 0x20;
    pub const COMPAT_SPARSE_SUPER2: u32 = 0x200;
    pub const COMPAT_ORPHAN_FILE: u32 = 0x1000;
    pub const INCOMPAT_FILETYPE: u32 = 0x2;
    /// The journal is in use, and would have to be replayed.
    pub const INCOMPAT_RECOVER: u32 = 0x4;
    pub const INCOMPAT_META_BG: u32 = 0x10;
    pub const INCOMPAT_EXTENTS: u32 = 0x40;
    pub const INCOMPAT_64BIT: u32 = 0x80;
    pub const INCOMPAT_MMP: u32 = 0x100;
    pub const INCOMPAT_FLEX_BG: u32 = 0x200;
    pub const INCOMPAT_EA_INODE: u32 = 0x400;
    pub const INCOMPAT_CSUM_SEED: u32 = 0x2000;
    pub const INCOMPAT_LARGEDIR: u32 = 0x4000;
    pub const INCOMPAT_INLINE_DATA: u32 = 0x8000;
    pub const INCOMPAT_ENCRYPT: u32 = 0x1_0000;
    pub const INCOMPAT_CASEFOLD: u32 = 0x2_0000;
    /// With any other, inodes and directories may be made in a way that is not known here.
    pub const INCOMPAT_KNOWN: u32 = INCOMPAT_FILETYPE
        | INCOMPAT_RECOVER
        | INCOMPAT_META_BG
        | INCOMPAT_EXTENTS
        | INCOMPAT_64BIT
        | INCOMPAT_MMP
        | INCOMPAT_FLEX_BG
        | INCOMPAT_EA_INODE
        | INCOMPAT_CSUM_SEED
        | INCOMPAT_LARGEDIR
        | INCOMPAT_INLINE_DATA
        | INCOMPAT_ENCRYPT
        | INCOMPAT_CASEFOLD;
    pub const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
    pub const RO_COMPAT_HUGE_FILE: u32 = 0x8;
    pub const RO_COMPAT_GDT_CSUM: u32 = 0x10;
    pub const RO_COMPAT_BIGALLOC: u32 = 0x200;
    pub const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
}

/// `struct ext4_group_desc`.
pub(super) mod group_desc {
    pub const EXT4_MIN_DESC_SIZE: u16 = 32;
    pub const EXT4_MIN_DESC_SIZE_64BIT: u16 = 64;
    pub const BG_BLOCK_BITMAP_LO: usize = 0x00;
    pub const BG_INODE_BITMAP_LO: usize = 0x04;
    pub const BG_INODE_TABLE_LO: usize = 0x08;
    pub const BG_FLAGS: usize = 0x12;
    pub const BG_ITABLE_UNUSED_LO: usize = 0x1c;
    pub const BG_CHECKSUM: usize = 0x1e;
    pub const BG_BLOCK_BITMAP_HI: usize = 0x20;
    pub const BG_INODE_BITMAP_HI: usize = 0x24;
    pub const BG_INODE_TABLE_HI: usize = 0x28;
    pub const BG_ITABLE_UNUSED_HI: usize = 0x32;
    /// In `bg_flags`: neither bitmap nor table has been written.
    pub const EXT4_BG_INODE_UNINIT: u16 = 0x1;
}

/// `struct ext4_inode`.
pub(super) mod inode {
    use std::ops::Range;

    pub const I_MODE: usize = 0x00;
    pub const I_SIZE_LO: usize = 0x04;
    /// Also the next orphan's number, while the inode is one.
    pub const I_DTIME: usize = 0x14;
    pub const I_LINKS_COUNT: usize = 0x1a;
    pub const I_BLOCKS_LO: usize = 0x1c;
    pub const I_FLAGS: usize = 0x20;
    pub const I_BLOCK: Range<usize> = 0x28..0x64;
    pub const I_GENERATION: usize = 0x64;
    pub const I_FILE_ACL_LO: usize = 0x68;
    pub const I_SIZE_HIGH: usize = 0x6c;
    pub const I_BLOCKS_HIGH: usize = 0x74;
    pub const I_FILE_ACL_HIGH: usize = 0x76;
    pub const I_CHECKSUM_LO: usize = 0x7c;
    /// How much more of it is in use than what every inode has; where that ends, attributes begin.
    pub const I_EXTRA_ISIZE: usize = 0x80;
    pub const I_CHECKSUM_HI: usize = 0x82;
    /// What every inode has, also in the first revision.
    pub const EXT4_GOOD_OLD_INODE_SIZE: u16 = 128;
}

/// `i_flags`, include/uapi/linux/fs.h and fs/ext4/ext4.h.
pub(super) mod flag {
    pub const IMMUTABLE_FL: u32 = 0x10;
    pub const APPEND_FL: u32 = 0x20;
    pub const ENCRYPT_FL: u32 = 0x800;
    /// A directory with a hashed index.
    pub const INDEX_FL: u32 = 0x1000;
    pub const HUGE_FILE_FL: u32 = 0x4_0000;
    pub const EXTENTS_FL: u32 = 0x8_0000;
    /// Holds the value of an extended attribute.
    pub const EA_INODE_FL: u32 = 0x20_0000;
    pub const INLINE_DATA_FL: u32 = 0x1000_0000;
    pub const CASEFOLD_FL: u32 = 0x4000_0000;
}

/// `struct ext4_extent_header`, `ext4_extent` and `ext4_extent_idx` (`fs/ext4/ext4_extents.h`).
pub(super) mod extent {
    pub const EXT4_EXT_MAGIC: u16 = 0xf30a;
    pub const EH_MAGIC: usize = 0;
    pub const EH_ENTRIES: usize = 2;
    pub const EH_MAX: usize = 4;
    pub const EH_DEPTH: usize = 6;
    /// Of the header and of each entry.
    pub const SIZE: usize = 12;
    pub const EXT4_MAX_EXTENT_DEPTH: u16 = 5;
    pub const EE_BLOCK: usize = 0;
    pub const EE_LEN: usize = 4;
    pub const EE_START_HI: usize = 6;
    pub const EE_START_LO: usize = 8;
    pub const EI_LEAF_LO: usize = 4;
    pub const EI_LEAF_HI: usize = 8;
    /// Longer ones are allocated but not written; what is more is their length.
    pub const EXT_INIT_MAX_LEN: u16 = 0x8000;
}

/// `struct ext4_dir_entry_2`.
pub(super) mod dir_entry {
    pub const INODE: usize = 0;
    pub const REC_LEN: usize = 4;
    pub const NAME_LEN: usize = 6;
    pub const NAME: usize = 8;
    /// `struct ext4_dir_entry_tail`: looks like an entry without an inode.
    pub const TAIL_SIZE: usize = 12;
    pub const TAIL: [u8; 8] = [0, 0, 0, 0, 12, 0, 0, 0xde];
    /// `ext4_dir_rec_len(1)`.
    pub const SMALLEST: usize = 12;
}

/// `struct dx_root`, `dx_node`, `dx_countlimit` and `dx_tail` (fs/ext4/namei.c).
pub(super) mod dx {
    /// Where the limit and the count of entries are, in the first block and in others.
    pub const ROOT_ENTRIES: usize = 32;
    pub const NODE_ENTRIES: usize = 8;
    pub const ENTRY_SIZE: usize = 8;
    pub const TAIL_SIZE: usize = 8;
    /// `struct dx_root_info`, behind `.` and `..`.
    pub const ROOT_INFO: usize = 24;
    pub const INFO_LENGTH: usize = 29;
    pub const ROOT_INFO_SIZE: u8 = 8;
}

/// `struct ext4_xattr_ibody_header`, `ext4_xattr_header` and `ext4_xattr_entry` (fs/ext4/xattr.h).
pub(super) mod xattr_entry {
    pub const EXT4_XATTR_MAGIC: u32 = 0xea02_0000;
    /// What lies before the entries in an inode, and in a block. Both begin with the magic number.
    pub const HEADER: usize = 4;
    pub const BLOCK_HEADER: usize = 32;
    pub const E_NAME_LEN: usize = 0;
    pub const E_NAME_INDEX: usize = 1;
    pub const E_VALUE_OFFS: usize = 2;
    /// The inode that holds the value, 0 where that lies beside the entries.
    pub const E_VALUE_INUM: usize = 4;
    pub const E_VALUE_SIZE: usize = 8;
    pub const EXT4_XATTR_SIZE_MAX: u32 = 1 << 24;
    pub const E_NAME: usize = 16;
    /// Of names that begin with `system.`.
    pub const EXT4_XATTR_INDEX_SYSTEM: u8 = 7;
    /// The name of what of inline data does not fit the block map.
    pub const EXT4_XATTR_SYSTEM_DATA: &[u8] = b"data";
}

pub(super) fn wide(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

pub(super) fn u16_at(raw: &[u8], offset: usize) -> Result<u16, Error> {
    let bytes = raw.get(offset..).and_then(|rest| rest.first_chunk()).ok_or(Error::Corrupt)?;
    Ok(u16::from_le_bytes(*bytes))
}

pub(super) fn u32_at(raw: &[u8], offset: usize) -> Result<u32, Error> {
    let bytes = raw.get(offset..).and_then(|rest| rest.first_chunk()).ok_or(Error::Corrupt)?;
    Ok(u32::from_le_bytes(*bytes))
}

pub(super) fn u8_at(raw: &[u8], offset: usize) -> Result<u8, Error> {
    raw.get(offset).copied().ok_or(Error::Corrupt)
}
