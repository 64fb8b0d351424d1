//! Where things lie on an ext4 volume: fs/ext4/ext4.h, Documentation/filesystems/ext4. No
//! number read from the volume is believed before it has been compared with its bounds.

use nix::errno::Errno;

/// What the kernel answers to a damaged filesystem (`EFSCORRUPTED`).
pub(super) const CORRUPT: Errno = Errno::EUCLEAN;

/// A block device, or an image of one.
pub(super) trait ReadAt {
    /// Fills `buffer` from `offset`, or fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Errno>;
}

/// `struct ext4_super_block`: where it starts, and the offsets of its fields.
mod superblock {
    pub(super) const START: u64 = 1024;
    pub(super) const SIZE: usize = 1024;
    pub(super) const MAGIC_VALUE: u16 = 0xef53;

    pub(super) const INODES_COUNT: usize = 0x00;
    pub(super) const BLOCKS_COUNT_LO: usize = 0x04;
    pub(super) const FIRST_DATA_BLOCK: usize = 0x14;
    pub(super) const LOG_BLOCK_SIZE: usize = 0x18;
    pub(super) const BLOCKS_PER_GROUP: usize = 0x20;
    pub(super) const INODES_PER_GROUP: usize = 0x28;
    pub(super) const MAGIC: usize = 0x38;
    pub(super) const REVISION: usize = 0x4c;
    pub(super) const FIRST_INODE: usize = 0x54;
    pub(super) const INODE_SIZE: usize = 0x58;
    pub(super) const COMPAT: usize = 0x5c;
    pub(super) const INCOMPAT: usize = 0x60;
    pub(super) const RO_COMPAT: usize = 0x64;
    pub(super) const LAST_ORPHAN: usize = 0xe8;
    pub(super) const DESCRIPTOR_SIZE: usize = 0xfe;
    pub(super) const FIRST_META_GROUP: usize = 0x104;
    pub(super) const BLOCKS_COUNT_HI: usize = 0x150;
    pub(super) const BACKUP_GROUPS: usize = 0x24c;
    pub(super) const ORPHAN_FILE: usize = 0x280;
}

/// `s_feature_compat`, `s_feature_incompat`, `s_feature_ro_compat`.
mod feature {
    pub(super) const COMPAT_HAS_JOURNAL: u32 = 0x4;
    pub(super) const COMPAT_SPARSE_SUPER2: u32 = 0x200;
    pub(super) const COMPAT_ORPHAN_FILE: u32 = 0x1000;
    pub(super) const INCOMPAT_FILETYPE: u32 = 0x2;
    /// The journal is in use, and would have to be replayed.
    pub(super) const INCOMPAT_RECOVER: u32 = 0x4;
    pub(super) const INCOMPAT_META_BG: u32 = 0x10;
    pub(super) const INCOMPAT_EXTENTS: u32 = 0x40;
    pub(super) const INCOMPAT_64BIT: u32 = 0x80;
    pub(super) const INCOMPAT_MMP: u32 = 0x100;
    pub(super) const INCOMPAT_FLEX_BG: u32 = 0x200;
    pub(super) const INCOMPAT_EA_INODE: u32 = 0x400;
    pub(super) const INCOMPAT_CSUM_SEED: u32 = 0x2000;
    pub(super) const INCOMPAT_LARGEDIR: u32 = 0x4000;
    pub(super) const INCOMPAT_INLINE_DATA: u32 = 0x8000;
    pub(super) const INCOMPAT_ENCRYPT: u32 = 0x1_0000;
    pub(super) const INCOMPAT_CASEFOLD: u32 = 0x2_0000;
    /// With any other, inodes and directories may be made in a way that is not known here.
    pub(super) const INCOMPAT_KNOWN: u32 = INCOMPAT_FILETYPE
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
    pub(super) const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
    pub(super) const RO_COMPAT_GROUP_CHECKSUMS: u32 = 0x10;
    pub(super) const RO_COMPAT_METADATA_CHECKSUMS: u32 = 0x400;
}

/// `struct ext4_group_desc`.
pub(super) mod descriptor {
    pub(in super::super) const SMALL: u16 = 32;
    pub(in super::super) const LARGE: u16 = 64;
    pub(in super::super) const INODE_BITMAP_LO: usize = 0x04;
    pub(in super::super) const INODE_TABLE_LO: usize = 0x08;
    pub(in super::super) const FLAGS: usize = 0x12;
    pub(in super::super) const UNUSED_INODES_LO: usize = 0x1c;
    pub(in super::super) const INODE_BITMAP_HI: usize = 0x24;
    pub(in super::super) const INODE_TABLE_HI: usize = 0x28;
    pub(in super::super) const UNUSED_INODES_HI: usize = 0x32;
    /// In `bg_flags`: neither bitmap nor table has been written.
    pub(in super::super) const INODES_UNINITIALIZED: u16 = 0x1;
}

/// `struct ext4_inode`.
pub(super) mod inode {
    /// Also the next orphan's number, while the inode is one.
    pub(in super::super) const DELETION_TIME: u64 = 0x14;
    pub(in super::super) const GENERATION: usize = 0x64;
    pub(in super::super) const MODE: usize = 0x00;
    pub(in super::super) const LINKS: usize = 0x1a;
    pub(in super::super) const SIZE_LO: usize = 0x04;
    pub(in super::super) const FLAGS: usize = 0x20;
    pub(in super::super) const BLOCKS: std::ops::Range<usize> = 0x28..0x64;
    pub(in super::super) const SIZE_HI: usize = 0x6c;
    /// What every inode has, also in the first revision.
    pub(in super::super) const SMALLEST: u16 = 128;
}

/// The first ordinary inode in the first revision: `EXT4_GOOD_OLD_FIRST_INO`.
const FIRST_INODE: u32 = 11;
/// The largest is 64 KiB: `EXT4_MAX_BLOCK_LOG_SIZE`.
const LARGEST_LOG_BLOCK_SIZE: u32 = 6;

/// A volume whose superblock has been read and makes sense.
pub(super) struct Volume<'a, R: ?Sized> {
    device: &'a R,
    pub(super) block_size: u64,
    pub(super) inodes: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_size: u16,
    pub(super) descriptor_size: u16,
    /// Below it are the filesystem's own inodes, and the root's.
    pub(super) first_inode: u32,
    blocks: u64,
    first_data_block: u64,
    blocks_per_group: u64,
    first_meta_group: Option<u64>,
    backups: Backups,
    features: Features,
    /// The inode of the orphan file.
    pub(super) orphan_file: Option<u32>,
}

/// `s_feature_compat`, `s_feature_incompat`, `s_feature_ro_compat` as they were read.
#[derive(Clone, Copy)]
struct Features {
    compat: u32,
    incompat: u32,
    ro_compat: u32,
}

/// Which groups begin with a copy of the superblock.
enum Backups {
    Everywhere,
    /// In the first two, and in those that are powers of 3, 5 and 7.
    Sparse,
    /// In two at most.
    Two([u64; 2]),
}

impl<'a, R: ReadAt + ?Sized> Volume<'a, R> {
    pub(super) fn open(device: &'a R) -> Result<Self, Errno> {
        let mut raw = [0; superblock::SIZE];
        device.read_at(superblock::START, &mut raw)?;
        let short = |offset| u16_at(&raw, offset);
        let word = |offset| u32_at(&raw, offset);
        let features = Features {
            compat: word(superblock::COMPAT)?,
            incompat: word(superblock::INCOMPAT)?,
            ro_compat: word(superblock::RO_COMPAT)?,
        };
        let log_block_size = word(superblock::LOG_BLOCK_SIZE)?;
        if short(superblock::MAGIC)? != superblock::MAGIC_VALUE || log_block_size > LARGEST_LOG_BLOCK_SIZE {
            return Err(CORRUPT);
        }
        let is_64bit = features.incompat & feature::INCOMPAT_64BIT != 0;
        let high = if is_64bit { word(superblock::BLOCKS_COUNT_HI)? } else { 0 };
        let has = |features: u32, feature: u32| features & feature != 0;
        let backups = if has(features.compat, feature::COMPAT_SPARSE_SUPER2) {
            let groups = [superblock::BACKUP_GROUPS, superblock::BACKUP_GROUPS + 4];
            Backups::Two([word(groups[0])?.into(), word(groups[1])?.into()])
        } else if has(features.ro_compat, feature::RO_COMPAT_SPARSE_SUPER) {
            Backups::Sparse
        } else {
            Backups::Everywhere
        };
        let first_revision = word(superblock::REVISION)? == 0;
        let volume = Self {
            device,
            block_size: 1024 << log_block_size,
            inodes: word(superblock::INODES_COUNT)?,
            inodes_per_group: word(superblock::INODES_PER_GROUP)?,
            inode_size: if first_revision { inode::SMALLEST } else { short(superblock::INODE_SIZE)? },
            descriptor_size: if is_64bit { short(superblock::DESCRIPTOR_SIZE)? } else { descriptor::SMALL },
            first_inode: if first_revision { FIRST_INODE } else { word(superblock::FIRST_INODE)? },
            blocks: wide(word(superblock::BLOCKS_COUNT_LO)?, high),
            first_data_block: word(superblock::FIRST_DATA_BLOCK)?.into(),
            blocks_per_group: word(superblock::BLOCKS_PER_GROUP)?.into(),
            first_meta_group: has(features.incompat, feature::INCOMPAT_META_BG)
                .then_some(word(superblock::FIRST_META_GROUP)?.into()),
            backups,
            orphan_file: has(features.compat, feature::COMPAT_ORPHAN_FILE)
                .then_some(word(superblock::ORPHAN_FILE)?),
            features,
        };
        volume.makes_sense(is_64bit).then_some(volume).ok_or(CORRUPT)
    }

    /// The checks of `ext4_block_group_meta_init` and `ext4_check_geometry` (fs/ext4/super.c) that
    /// what follows relies on.
    fn makes_sense(&self, is_64bit: bool) -> bool {
        let smallest = if is_64bit { descriptor::LARGE } else { descriptor::SMALL };
        self.inodes_per_group != 0
            && self.blocks_per_group != 0
            && self.inode_size.is_power_of_two()
            && self.inode_size >= inode::SMALLEST
            && u64::from(self.inode_size) <= self.block_size
            && self.descriptor_size.is_power_of_two()
            && self.descriptor_size >= smallest
            && self.block_size >= self.descriptor_size.into()
    }

    /// Whether a journal is in use right now, which it is not where it was not loaded (`noload`), nor
    /// while nothing can be written.
    pub(super) fn is_journalled(&self) -> bool {
        self.features.compat & feature::COMPAT_HAS_JOURNAL != 0
            && self.features.incompat & feature::INCOMPAT_RECOVER != 0
    }

    /// Whether groups say how much of their inode tables has been used: `ext4_has_group_desc_csum`.
    pub(super) fn has_group_checksums(&self) -> bool {
        let either = feature::RO_COMPAT_GROUP_CHECKSUMS | feature::RO_COMPAT_METADATA_CHECKSUMS;
        self.features.ro_compat & either != 0
    }

    /// Whether its inodes and directories are made as is known here.
    pub(super) fn is_known(&self) -> bool {
        self.features.incompat & !feature::INCOMPAT_KNOWN == 0
    }

    /// The first inode of the chain of orphans, 0 for none; read anew, because it changes.
    pub(super) fn last_orphan(&self) -> Result<u32, Errno> {
        self.word_on_device(superblock::START + superblock::LAST_ORPHAN as u64)
    }

    /// The next inode in the chain of orphans, 0 at its end.
    pub(super) fn next_orphan(&self, inode: u32) -> Result<u32, Errno> {
        self.word_on_device(self.inode_offset(inode)? + inode::DELETION_TIME)
    }

    /// Tells the inode from others that have had or will have the same number.
    pub(super) fn generation(&self, inode: u32) -> Result<u32, Errno> {
        self.word_on_device(self.inode_offset(inode)? + inode::GENERATION as u64)
    }

    /// The fields that every inode has.
    pub(super) fn inode(&self, inode: u32) -> Result<[u8; inode::SMALLEST as usize], Errno> {
        let mut raw = [0; inode::SMALLEST as usize];
        self.device.read_at(self.inode_offset(inode)?, &mut raw)?;
        Ok(raw)
    }

    pub(super) fn is_inode(&self, number: u32) -> bool {
        (1..=self.inodes).contains(&number)
    }

    pub(super) fn block(&self, number: u64) -> Result<Vec<u8>, Errno> {
        let offset = self.block_offset(number)?;
        let mut raw = vec![0; usize::try_from(self.block_size).map_err(|_| CORRUPT)?];
        self.device.read_at(offset, &mut raw)?;
        Ok(raw)
    }

    /// Fills `buffer` from `offset` behind the beginning of a block.
    pub(super) fn read(&self, block: u64, offset: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let start = self.block_offset(block)?.checked_add(offset).ok_or(CORRUPT)?;
        self.device.read_at(start, buffer)
    }

    fn word_on_device(&self, offset: u64) -> Result<u32, Errno> {
        let mut raw = [0; 4];
        self.device.read_at(offset, &mut raw)?;
        Ok(u32::from_le_bytes(raw))
    }

    fn block_offset(&self, number: u64) -> Result<u64, Errno> {
        let inside = number != 0 && number < self.blocks;
        inside.then(|| number.checked_mul(self.block_size)).flatten().ok_or(CORRUPT)
    }

    /// Where an inode lies: its group's descriptor knows the table. Also says that adding an offset
    /// within a block cannot overflow.
    fn inode_offset(&self, inode: u32) -> Result<u64, Errno> {
        if !self.is_inode(inode) {
            return Err(CORRUPT);
        }
        let (group, index) = ((inode - 1) / self.inodes_per_group, (inode - 1) % self.inodes_per_group);
        let mut raw = [0; descriptor::LARGE as usize];
        let size = usize::from(self.descriptor_size).min(raw.len());
        self.device.read_at(self.descriptor_offset(group.into())?, &mut raw[..size])?;
        let low = u32_at(&raw, descriptor::INODE_TABLE_LO)?;
        // Zero where the descriptor is too short to have it.
        let high = u32_at(&raw, descriptor::INODE_TABLE_HI)?;
        let offset = u64::from(index) * u64::from(self.inode_size);
        let block = wide(low, high).checked_add(offset / self.block_size).ok_or(CORRUPT)?;
        Ok(self.block_offset(block)? + offset % self.block_size)
    }

    /// How many groups there are. The kernel makes sure that there are as many inodes as they have
    /// room for, and that a group's bitmap fits a block (`ext4_check_geometry`, fs/ext4/super.c).
    pub(super) fn group_count(&self) -> Result<u32, Errno> {
        let count = self.inodes / self.inodes_per_group;
        let blocks = self.blocks.saturating_sub(self.first_data_block);
        let fits = self.inodes.is_multiple_of(self.inodes_per_group)
            && u64::from(self.inodes_per_group) <= self.block_size * 8
            && u64::from(count) == blocks.div_ceil(self.blocks_per_group);
        fits.then_some(count).ok_or(CORRUPT)
    }

    /// Where a group's descriptor lies.
    fn descriptor_offset(&self, group: u64) -> Result<u64, Errno> {
        let size = u64::from(self.descriptor_size);
        let per_block = self.block_size / size;
        Ok(self.block_offset(self.descriptor_block(group)?)? + group % per_block * size)
    }

    /// The block in which a group's descriptor lies: `descriptor_loc` in fs/ext4/super.c.
    pub(super) fn descriptor_block(&self, group: u64) -> Result<u64, Errno> {
        let per_block = self.block_size / u64::from(self.descriptor_size);
        let number = group / per_block;
        let block = match self.first_meta_group {
            Some(first) if number >= first => self.meta_descriptor_block(number * per_block),
            _ => Some(superblock::START / self.block_size + 1 + number),
        };
        block.ok_or(CORRUPT)
    }

    /// With `meta_bg` descriptors lie in the first of the groups that they describe, behind the
    /// copy of the superblock, if there is one.
    fn meta_descriptor_block(&self, group: u64) -> Option<u64> {
        let has_backup = match self.backups {
            Backups::Everywhere => true,
            Backups::Sparse => group <= 1 || [3, 5, 7].iter().any(|&base| is_power(group, base)),
            Backups::Two(groups) => group == 0 || groups.contains(&group),
        };
        // Blocks of 1 KiB that are counted from 0 (bigalloc): the superblock is in the second.
        let behind_boot_block = self.block_size == 1024 && group == 0 && self.first_data_block == 0;
        let start = group.checked_mul(self.blocks_per_group)?.checked_add(self.first_data_block)?;
        start.checked_add(u64::from(has_backup) + u64::from(behind_boot_block))
    }
}

fn is_power(number: u64, base: u64) -> bool {
    let mut rest = number;
    while rest > 1 && rest.is_multiple_of(base) {
        rest /= base;
    }
    rest == 1
}

pub(super) fn wide(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

pub(super) fn u16_at(raw: &[u8], offset: usize) -> Result<u16, Errno> {
    let bytes = raw.get(offset..).and_then(|rest| rest.first_chunk()).ok_or(CORRUPT)?;
    Ok(u16::from_le_bytes(*bytes))
}

pub(super) fn u32_at(raw: &[u8], offset: usize) -> Result<u32, Errno> {
    let bytes = raw.get(offset..).and_then(|rest| rest.first_chunk()).ok_or(CORRUPT)?;
    Ok(u32::from_le_bytes(*bytes))
}
