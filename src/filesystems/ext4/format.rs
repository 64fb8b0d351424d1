//! What lies where in the structures of ext2, ext3 and ext4: fs/ext4/ext4.h and
//! Documentation/filesystems/ext4. Numbers are little-endian.

use super::error::Error;

/// `struct ext4_super_block`: where it starts, and the offsets of its fields.
pub(super) mod superblock {
    pub const START: u64 = 1024;
    pub const SIZE: usize = 1024;
    pub const MAGIC_VALUE: u16 = 0xef53;

    pub const INODES_COUNT: usize = 0x00;
    pub const BLOCKS_COUNT_LO: usize = 0x04;
    pub const RESERVED_BLOCKS_LO: usize = 0x08;
    pub const FIRST_DATA_BLOCK: usize = 0x14;
    pub const LOG_BLOCK_SIZE: usize = 0x18;
    pub const LOG_CLUSTER_SIZE: usize = 0x1c;
    pub const BLOCKS_PER_GROUP: usize = 0x20;
    pub const INODES_PER_GROUP: usize = 0x28;
    pub const MAGIC: usize = 0x38;
    pub const CREATOR_OS: usize = 0x48;
    pub const REVISION: usize = 0x4c;
    pub const FIRST_INODE: usize = 0x54;
    pub const INODE_SIZE: usize = 0x58;
    pub const COMPAT: usize = 0x5c;
    pub const INCOMPAT: usize = 0x60;
    pub const RO_COMPAT: usize = 0x64;
    pub const UUID: std::ops::Range<usize> = 0x68..0x78;
    pub const RESERVED_DESCRIPTORS: usize = 0xce;
    pub const JOURNAL_INODE: usize = 0xe0;
    pub const LAST_ORPHAN: usize = 0xe8;
    pub const DESCRIPTOR_SIZE: usize = 0xfe;
    pub const FIRST_META_GROUP: usize = 0x104;
    pub const BLOCKS_COUNT_HI: usize = 0x150;
    pub const RESERVED_BLOCKS_HI: usize = 0x154;
    pub const USER_QUOTA_INODE: usize = 0x240;
    pub const GROUP_QUOTA_INODE: usize = 0x244;
    pub const OVERHEAD_CLUSTERS: usize = 0x248;
    pub const BACKUP_GROUPS: usize = 0x24c;
    pub const PROJECT_QUOTA_INODE: usize = 0x26c;
    pub const CHECKSUM_SEED: usize = 0x270;
    pub const ORPHAN_FILE: usize = 0x280;

    /// In `s_creator_os`: `EXT4_OS_LINUX`.
    pub const LINUX: u32 = 0;
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
    pub const RO_COMPAT_GROUP_CHECKSUMS: u32 = 0x10;
    pub const RO_COMPAT_BIGALLOC: u32 = 0x200;
    pub const RO_COMPAT_METADATA_CHECKSUMS: u32 = 0x400;
}

/// `struct ext4_group_desc`.
pub(super) mod descriptor {
    pub const SMALL: u16 = 32;
    pub const LARGE: u16 = 64;
    pub const BLOCK_BITMAP_LO: usize = 0x00;
    pub const INODE_BITMAP_LO: usize = 0x04;
    pub const INODE_TABLE_LO: usize = 0x08;
    pub const FLAGS: usize = 0x12;
    pub const UNUSED_INODES_LO: usize = 0x1c;
    pub const CHECKSUM: usize = 0x1e;
    pub const BLOCK_BITMAP_HI: usize = 0x20;
    pub const INODE_BITMAP_HI: usize = 0x24;
    pub const INODE_TABLE_HI: usize = 0x28;
    pub const UNUSED_INODES_HI: usize = 0x32;
    /// In `bg_flags`: neither bitmap nor table has been written.
    pub const INODES_UNINITIALIZED: u16 = 0x1;
}

/// `struct ext4_inode`.
pub(super) mod inode {
    use std::ops::Range;

    pub const MODE: usize = 0x00;
    pub const SIZE_LO: usize = 0x04;
    /// Also the next orphan's number, while the inode is one.
    pub const DELETION_TIME: usize = 0x14;
    pub const LINKS: usize = 0x1a;
    pub const SECTORS_LO: usize = 0x1c;
    pub const FLAGS: usize = 0x20;
    pub const BLOCK: Range<usize> = 0x28..0x64;
    pub const GENERATION: usize = 0x64;
    pub const ATTRIBUTES_LO: usize = 0x68;
    pub const SIZE_HI: usize = 0x6c;
    pub const SECTORS_HI: usize = 0x74;
    pub const ATTRIBUTES_HI: usize = 0x76;
    pub const CHECKSUM_LO: usize = 0x7c;
    /// How much more of it is in use than what every inode has; where that ends, attributes begin.
    pub const EXTRA_SIZE: usize = 0x80;
    pub const CHECKSUM_HI: usize = 0x82;
    /// What every inode has, also in the first revision.
    pub const SMALLEST: u16 = 128;
}

/// `i_flags`, include/uapi/linux/fs.h and fs/ext4/ext4.h.
pub(super) mod flag {
    pub const IMMUTABLE: u32 = 0x10;
    pub const APPEND_ONLY: u32 = 0x20;
    pub const ENCRYPTED: u32 = 0x800;
    /// A directory with a hashed index.
    pub const INDEXED: u32 = 0x1000;
    pub const HUGE_FILE: u32 = 0x4_0000;
    pub const EXTENTS: u32 = 0x8_0000;
    /// Holds the value of an extended attribute.
    pub const ATTRIBUTE_VALUE: u32 = 0x20_0000;
    pub const INLINE_DATA: u32 = 0x1000_0000;
    pub const CASE_FOLDED: u32 = 0x4000_0000;
}

/// `struct ext4_extent_header`, `ext4_extent` and `ext4_extent_idx` (`fs/ext4/ext4_extents.h`).
pub(super) mod extent {
    pub const MAGIC_VALUE: u16 = 0xf30a;
    pub const MAGIC: usize = 0;
    pub const ENTRIES: usize = 2;
    pub const MOST_ENTRIES: usize = 4;
    pub const DEPTH: usize = 6;
    /// Of the header and of each entry.
    pub const SIZE: usize = 12;
    pub const DEEPEST: u16 = 5;
    pub const FIRST: usize = 0;
    pub const LENGTH: usize = 4;
    pub const START_HI: usize = 6;
    pub const START_LO: usize = 8;
    pub const CHILD_LO: usize = 4;
    pub const CHILD_HI: usize = 8;
    /// Longer ones are allocated but not written; what is more is their length.
    pub const LONGEST_WRITTEN: u16 = 0x8000;
}

/// `struct ext4_dir_entry_2`.
pub(super) mod entry {
    pub const INODE: usize = 0;
    pub const LENGTH: usize = 4;
    pub const NAME_LENGTH: usize = 6;
    pub const NAME: usize = 8;
    /// `struct ext4_dir_entry_tail`: looks like an entry without an inode.
    pub const TAIL_SIZE: usize = 12;
    pub const TAIL: [u8; 8] = [0, 0, 0, 0, 12, 0, 0, 0xde];
    /// `ext4_dir_rec_len(1)`.
    pub const SMALLEST: usize = 12;
}

/// `struct dx_root`, `dx_node`, `dx_countlimit` and `dx_tail` (fs/ext4/namei.c).
pub(super) mod index {
    /// Where the limit and the count of entries are, in the first block and in others.
    pub const ROOT_ENTRIES: usize = 32;
    pub const NODE_ENTRIES: usize = 8;
    pub const ENTRY_SIZE: usize = 8;
    pub const TAIL_SIZE: usize = 8;
    /// `struct dx_root_info`, behind `.` and `..`.
    pub const ROOT_INFO: usize = 24;
    pub const ROOT_INFO_LENGTH: usize = 29;
    pub const ROOT_INFO_SIZE: u8 = 8;
}

/// `struct ext4_xattr_ibody_header`, `ext4_xattr_header` and `ext4_xattr_entry` (fs/ext4/xattr.h).
pub(super) mod attribute {
    pub const MAGIC: u32 = 0xea02_0000;
    /// What lies before the entries in an inode, and in a block. Both begin with the magic number.
    pub const HEADER: usize = 4;
    pub const BLOCK_HEADER: usize = 32;
    pub const NAME_LENGTH: usize = 0;
    pub const NAME_INDEX: usize = 1;
    pub const VALUE_OFFSET: usize = 2;
    /// The inode that holds the value, 0 where that lies beside the entries.
    pub const VALUE_INODE: usize = 4;
    pub const VALUE_SIZE: usize = 8;
    /// `EXT4_XATTR_SIZE_MAX`.
    pub const LARGEST_VALUE: u32 = 1 << 24;
    pub const NAME: usize = 16;
    /// `system.`
    pub const SYSTEM: u8 = 7;
    /// What of inline data does not fit the block map: `EXT4_XATTR_SYSTEM_DATA`.
    pub const DATA: &[u8] = b"data";
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
