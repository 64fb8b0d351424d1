// SPDX-License-Identifier: MIT OR Apache-2.0

//! A volume as its superblock describes it, and where things lie on it. No number read from it is
//! believed before it has been compared with its bounds.

use std::sync::OnceLock;
use std::time::Duration;

use super::checksum::{Checksums, Descriptors};
use super::error::Error;
use super::format::{feature, group_desc, inode, superblock, u32_at, wide};
use super::group_desc::Group;
use super::superblock::{Backups, EXT4_GOOD_OLD_FIRST_INO, Features, Superblock};

/// How many bytes are read at once, where so many lie side by side: enough that the calls do not count,
/// and not more than stays in the processor's cache together with what they are copied from.
pub(super) const LARGEST_READ: usize = 1 << 16;

/// So many bytes of a buffer that is used again and again: what is there need not be cleared each time.
pub(super) fn room(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    buffer.get_mut(..length).unwrap_or_default()
}

/// A block device, or an image of one.
pub(super) trait ReadAt: Sync {
    /// Fills `buffer` from `offset`, or fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error>;

    /// Says what will be read soon, so that a disk can be asked for all of it at once.
    fn announce(&self, _offset: u64, _length: u64) {}

    /// How long to wait before what looks damaged is read again: what is not mounted does not change.
    fn pause(&self) -> Duration;
}

/// A volume whose superblock has been read and makes sense.
pub(super) struct Volume<'a> {
    device: &'a dyn ReadAt,
    pub(super) block_size: u64,
    /// The unit in which data is allocated; larger than a block only with `bigalloc`.
    pub(super) cluster_size: u64,
    pub(super) inodes: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_size: u16,
    pub(super) desc_size: u16,
    /// Below it are the filesystem's own inodes, and the root's.
    pub(super) first_inode: u32,
    pub(super) blocks: u64,
    /// What only root, or who else is named, may take of those that are free.
    pub(super) reserved_blocks: u64,
    pub(super) first_data_block: u64,
    pub(super) blocks_per_group: u64,
    /// Blocks of room for more descriptors.
    pub(super) reserved_gdt_blocks: u16,
    /// What mkfs says that lies at fixed places; 0 if it does not.
    pub(super) overhead_clusters: u64,
    first_meta_bg: Option<u64>,
    backups: Backups,
    features: Features,
    /// What the sums of its metadata begin with; `None` without `metadata_csum`.
    checksum_seed: Option<u32>,
    checksums: OnceLock<Checksums>,
    pub(super) desc_sums: Descriptors,
    /// The inode of the orphan file.
    pub(super) orphan_file: Option<u32>,
    /// The inodes of an internal journal, and of the quota files of users, groups and projects; 0 for
    /// none.
    pub(super) journal: u32,
    pub(super) quotas: [u32; 3],
}

impl<'a> Volume<'a> {
    pub(super) fn open(device: &'a dyn ReadAt) -> Result<Self, Error> {
        let fields = Superblock::read(device)?;
        if fields.short(superblock::S_MAGIC)? != superblock::EXT4_SUPER_MAGIC {
            return Err(Error::Corrupt);
        }
        let volume = Self::from_fields(device, &fields)?;
        if !volume.makes_sense() || volume.is_cut_off() {
            return Err(Error::Corrupt);
        }
        Ok(volume)
    }

    fn from_fields(device: &'a dyn ReadAt, fields: &Superblock) -> Result<Self, Error> {
        let word = |offset| fields.word(offset);
        let features = fields.features()?;
        let (block_size, cluster_size) = fields.unit_sizes(features)?;
        let is_64bit = features.incompat & feature::INCOMPAT_64BIT != 0;
        let count = |low, high| {
            let high = if is_64bit { word(high)? } else { 0 };
            Ok::<_, Error>(wide(word(low)?, high))
        };
        let first_revision = word(superblock::S_REV_LEVEL)? == 0;
        let inode_size = if first_revision {
            inode::EXT4_GOOD_OLD_INODE_SIZE
        } else {
            fields.short(superblock::S_INODE_SIZE)?
        };
        let desc_size =
            if is_64bit { fields.short(superblock::S_DESC_SIZE)? } else { group_desc::EXT4_MIN_DESC_SIZE };
        let where_set = |features: u32, feature: u32, offset| {
            if features & feature == 0 { Ok(None) } else { word(offset).map(Some) }
        };
        // What is left of a journal that has been given up is none.
        let journal = where_set(features.compat, feature::COMPAT_HAS_JOURNAL, superblock::S_JOURNAL_INUM)?;
        Ok(Self {
            device,
            block_size,
            cluster_size,
            inodes: word(superblock::S_INODES_COUNT)?,
            inodes_per_group: word(superblock::S_INODES_PER_GROUP)?,
            inode_size,
            desc_size,
            first_inode: if first_revision {
                EXT4_GOOD_OLD_FIRST_INO
            } else {
                word(superblock::S_FIRST_INO)?
            },
            blocks: count(superblock::S_BLOCKS_COUNT_LO, superblock::S_BLOCKS_COUNT_HI)?,
            reserved_blocks: count(superblock::S_R_BLOCKS_COUNT_LO, superblock::S_R_BLOCKS_COUNT_HI)?,
            first_data_block: word(superblock::S_FIRST_DATA_BLOCK)?.into(),
            blocks_per_group: word(superblock::S_BLOCKS_PER_GROUP)?.into(),
            reserved_gdt_blocks: fields.short(superblock::S_RESERVED_GDT_BLOCKS)?,
            overhead_clusters: word(superblock::S_OVERHEAD_CLUSTERS)?.into(),
            first_meta_bg: where_set(
                features.incompat,
                feature::INCOMPAT_META_BG,
                superblock::S_FIRST_META_BG,
            )?
            .map(u64::from),
            backups: fields.backups(features)?,
            checksum_seed: fields.checksum_seed(features)?,
            checksums: OnceLock::new(),
            desc_sums: fields.desc_sums(features, desc_size)?,
            orphan_file: where_set(
                features.compat,
                feature::COMPAT_ORPHAN_FILE,
                superblock::S_ORPHAN_FILE_INUM,
            )?,
            journal: journal.unwrap_or(0),
            quotas: fields.quotas()?,
            features,
        })
    }

    /// The checks of `ext4_block_group_meta_init` and `ext4_check_geometry` (fs/ext4/super.c) that
    /// what follows relies on.
    fn makes_sense(&self) -> bool {
        let smallest = if self.is_64bit() {
            group_desc::EXT4_MIN_DESC_SIZE_64BIT
        } else {
            group_desc::EXT4_MIN_DESC_SIZE
        };
        self.inodes_per_group != 0
            && self.blocks_per_group != 0
            && self.inode_size.is_power_of_two()
            && self.inode_size >= inode::EXT4_GOOD_OLD_INODE_SIZE
            && u64::from(self.inode_size) <= self.block_size
            && self.desc_size.is_power_of_two()
            && self.desc_size >= smallest
            && self.block_size >= self.desc_size.into()
            && self.cluster_size >= self.block_size
    }

    /// Whether the device ends before the volume does, which `ext4_check_geometry` refuses. How much there
    /// can be to read is known from what the volume says of its size.
    fn is_cut_off(&self) -> bool {
        self.block(self.blocks.saturating_sub(1)).is_err_and(|error| error == Error::Corrupt)
    }

    /// Whether a journal is in use right now, which it is not where it was not loaded (`noload`), nor
    /// while nothing can be written.
    pub(super) fn is_journalled(&self) -> bool {
        self.features.compat & feature::COMPAT_HAS_JOURNAL != 0
            && self.features.incompat & feature::INCOMPAT_RECOVER != 0
    }

    /// Whether groups say how much of their inode tables has been used: `ext4_has_group_desc_csum`.
    pub(super) fn has_gdt_csum(&self) -> bool {
        let either = feature::RO_COMPAT_GDT_CSUM | feature::RO_COMPAT_METADATA_CSUM;
        self.features.ro_compat & either != 0
    }

    /// Whether the upper half of an inode's count of sectors counts, and large files count in blocks.
    pub(super) fn has_huge_files(&self) -> bool {
        self.features.ro_compat & feature::RO_COMPAT_HUGE_FILE != 0
    }

    /// Whether directories may be larger than 4 GiB.
    pub(super) fn has_largedir(&self) -> bool {
        self.features.incompat & feature::INCOMPAT_LARGEDIR != 0
    }

    /// How its metadata is summed up; `None` without `metadata_csum`. Made when it is first needed.
    pub(super) fn checksums(&self) -> Option<&Checksums> {
        let make = |seed| Checksums::new(seed, self.inode_size, self.block_size);
        self.checksum_seed.map(|seed| self.checksums.get_or_init(|| make(seed)))
    }

    /// Whether directories may have a hashed index.
    pub(super) fn has_indexes(&self) -> bool {
        self.features.compat & feature::COMPAT_DIR_INDEX != 0
    }

    /// Whether names may be looked up without regard to case.
    pub(super) fn has_case_folding(&self) -> bool {
        self.features.incompat & feature::INCOMPAT_CASEFOLD != 0
    }

    /// What so many bytes take up: whole clusters.
    pub(super) fn in_clusters(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_size).saturating_mul(self.cluster_size)
    }

    /// How many bytes of its device it takes up.
    pub(super) fn size(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size)
    }

    /// How many bytes of names the index of a directory leads to when it is full: `dx_root_limit`,
    /// `dx_node_limit` and `ext4_dir_htree_level` in fs/ext4/namei.c and ext4.h. `None` where directories
    /// have no index.
    pub(super) fn largest_directory(&self) -> Option<u64> {
        /// The entries `.` and `..`, and `struct dx_root_info`.
        const ROOT_HEAD: u64 = 12 + 12 + 8;
        /// An entry that is none, over the whole block.
        const NODE_HEAD: u64 = 8;
        /// `struct dx_tail`, the checksum.
        const TAIL: u64 = 8;
        /// `struct dx_entry`.
        const ENTRY: u64 = 8;
        if !self.has_indexes() {
            return None;
        }
        let has_tail = self.features.ro_compat & feature::RO_COMPAT_METADATA_CSUM != 0;
        let tail = if has_tail { TAIL } else { 0 };
        let root = (self.block_size - ROOT_HEAD - tail) / ENTRY;
        let node = (self.block_size - NODE_HEAD - tail) / ENTRY;
        let levels = if self.has_largedir() { 3 } else { 2 };
        Some(root.saturating_mul(node.saturating_pow(levels - 1)).saturating_mul(self.block_size))
    }

    /// Whether block numbers have more than 32 bits.
    pub(super) fn is_64bit(&self) -> bool {
        self.features.incompat & feature::INCOMPAT_64BIT != 0
    }

    /// Whether there is a block in which hosts say that they have it mounted (multiple mount protection).
    pub(super) fn has_mmp_block(&self) -> bool {
        self.features.incompat & feature::INCOMPAT_MMP != 0
    }

    /// Whether values of extended attributes can lie in inodes of their own.
    pub(super) fn has_ea_inodes(&self) -> bool {
        self.features.incompat & feature::INCOMPAT_EA_INODE != 0
    }

    /// Whether its inodes and directories are made as is known here.
    pub(super) fn is_known(&self) -> bool {
        self.features.incompat & !feature::INCOMPAT_KNOWN == 0
    }

    /// The first inode of the chain of orphans, 0 for none; read anew, because it changes.
    pub(super) fn last_orphan(&self) -> Result<u32, Error> {
        self.word_on_device(superblock::START + superblock::S_LAST_ORPHAN as u64)
    }

    /// The next inode in the chain of orphans, 0 at its end.
    pub(super) fn next_orphan(&self, inode: u32) -> Result<u32, Error> {
        self.word_on_device(self.inode_offset(inode)? + inode::I_DTIME as u64)
    }

    /// An inode, as it is right now.
    pub(super) fn inode(&self, inode: u32) -> Result<Vec<u8>, Error> {
        let mut raw = vec![0; self.inode_size.into()];
        self.device.read_at(self.inode_offset(inode)?, &mut raw)?;
        Ok(raw)
    }

    /// How long to wait before something is read again.
    pub(super) fn pause(&self) -> Duration {
        self.device.pause()
    }

    pub(super) fn is_inode(&self, number: u32) -> bool {
        (1..=self.inodes).contains(&number)
    }

    /// Whether it is one that a name may lead to, besides the root: `ext4_valid_inum`.
    pub(super) fn is_ordinary(&self, number: u32) -> bool {
        self.is_inode(number) && number >= self.first_inode
    }

    pub(super) fn block(&self, number: u64) -> Result<Vec<u8>, Error> {
        let offset = self.block_offset(number)?;
        let mut raw = vec![0; usize::try_from(self.block_size).map_err(|_| Error::Corrupt)?];
        self.device.read_at(offset, &mut raw)?;
        Ok(raw)
    }

    /// Fills `buffer` from `offset` behind the beginning of a block.
    pub(super) fn read(&self, block: u64, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let start = self.block_offset(block)?.checked_add(offset).ok_or(Error::Corrupt)?;
        self.device.read_at(start, buffer)
    }

    /// Says that `length` bytes from `offset` behind the beginning of a block will be read soon.
    pub(super) fn announce(&self, block: u64, offset: u64, length: u64) {
        if let Some(start) = self.block_offset(block).ok().and_then(|start| start.checked_add(offset)) {
            self.device.announce(start, length);
        }
    }

    fn word_on_device(&self, offset: u64) -> Result<u32, Error> {
        let mut raw = [0; 4];
        self.device.read_at(offset, &mut raw)?;
        Ok(u32::from_le_bytes(raw))
    }

    fn block_offset(&self, number: u64) -> Result<u64, Error> {
        let inside = number != 0 && number < self.blocks;
        inside.then(|| number.checked_mul(self.block_size)).flatten().ok_or(Error::Corrupt)
    }

    /// Where an inode lies: its group's descriptor knows the table. Also says that adding an offset
    /// within a block cannot overflow.
    fn inode_offset(&self, inode: u32) -> Result<u64, Error> {
        let (group, index) = self.group_and_index(inode)?;
        let raw = self.descriptor(group)?;
        let table =
            wide(u32_at(&raw, group_desc::BG_INODE_TABLE_LO)?, u32_at(&raw, group_desc::BG_INODE_TABLE_HI)?);
        let offset = u64::from(index) * u64::from(self.inode_size);
        let block = table.checked_add(offset / self.block_size).ok_or(Error::Corrupt)?;
        Ok(self.block_offset(block)? + offset % self.block_size)
    }

    /// Whether its group says right now that an inode is in use.
    pub(super) fn is_in_use(&self, inode: u32) -> Result<bool, Error> {
        let (number, index) = self.group_and_index(inode)?;
        let raw = self.descriptor(number)?;
        let size = usize::from(self.desc_size).min(raw.len());
        let group = Group::new(self, raw.get(..size).unwrap_or_default(), number)?;
        let mut byte = [0];
        self.read(group.bitmap, u64::from(index / 8), &mut byte)?;
        Ok(index < group.used && byte[0] >> (index % 8) & 1 == 1)
    }

    /// The group of an inode, and its index in that group's table.
    fn group_and_index(&self, inode: u32) -> Result<(u32, u32), Error> {
        let both =
            ((inode.wrapping_sub(1)) / self.inodes_per_group, inode.wrapping_sub(1) % self.inodes_per_group);
        self.is_inode(inode).then_some(both).ok_or(Error::Corrupt)
    }

    /// A group's descriptor as it is right now; what it is too short to have is zero.
    fn descriptor(&self, group: u32) -> Result<[u8; group_desc::EXT4_MIN_DESC_SIZE_64BIT as usize], Error> {
        let mut raw = [0; group_desc::EXT4_MIN_DESC_SIZE_64BIT as usize];
        let size = usize::from(self.desc_size).min(raw.len());
        self.device.read_at(self.descriptor_offset(group.into())?, &mut raw[..size])?;
        Ok(raw)
    }

    /// How many groups there are. The kernel makes sure that there are as many inodes as they have
    /// room for, and that a group's bitmap fits a block (`ext4_check_geometry`, fs/ext4/super.c).
    pub(super) fn group_count(&self) -> Result<u32, Error> {
        let count = self.inodes / self.inodes_per_group;
        let blocks = self.blocks.saturating_sub(self.first_data_block);
        let fits = self.inodes.is_multiple_of(self.inodes_per_group)
            && u64::from(self.inodes_per_group) <= self.block_size * 8
            && u64::from(count) == blocks.div_ceil(self.blocks_per_group);
        fits.then_some(count).ok_or(Error::Corrupt)
    }

    /// Where a group's descriptor lies.
    fn descriptor_offset(&self, group: u64) -> Result<u64, Error> {
        let size = u64::from(self.desc_size);
        let per_block = self.block_size / size;
        Ok(self.block_offset(self.descriptor_block(group)?)? + group % per_block * size)
    }

    /// The block in which a group's descriptor lies: `descriptor_loc` in fs/ext4/super.c.
    pub(super) fn descriptor_block(&self, group: u64) -> Result<u64, Error> {
        let per_block = self.block_size / u64::from(self.desc_size);
        let number = group / per_block;
        let block = match self.first_meta_bg {
            Some(first) if number >= first => self.meta_descriptor_block(number * per_block),
            _ => Some(superblock::START / self.block_size + 1 + number),
        };
        block.ok_or(Error::Corrupt)
    }

    /// With `meta_bg` descriptors lie in the first of the groups that they describe, behind the
    /// copy of the superblock, if there is one.
    fn meta_descriptor_block(&self, group: u64) -> Option<u64> {
        // Blocks of 1 KiB that are counted from 0 (bigalloc): the superblock is in the second.
        let behind_boot_block = self.block_size == 1024 && group == 0 && self.first_data_block == 0;
        let before = u64::from(self.has_backup(group)) + u64::from(behind_boot_block);
        self.group_start(group)?.checked_add(before)
    }

    pub(super) fn group_start(&self, group: u64) -> Option<u64> {
        group.checked_mul(self.blocks_per_group)?.checked_add(self.first_data_block)
    }

    /// Whether a group begins with the superblock or a copy: `ext4_bg_has_super`.
    fn has_backup(&self, group: u64) -> bool {
        match self.backups {
            Backups::Everywhere => true,
            Backups::Sparse => group <= 1 || [3, 5, 7].iter().any(|&base| is_power(group, base)),
            Backups::Two(groups) => group == 0 || groups.contains(&group),
        }
    }

    /// How many blocks at the beginning of a group are taken by the superblock, by descriptors, and by
    /// room for so many more blocks of them: `ext4_bg_num_gdb` (fs/ext4/balloc.c).
    pub(super) fn fixed_blocks(&self, group: u64, reserved: u64) -> u64 {
        let per_block = self.block_size / u64::from(self.desc_size);
        let (meta, backup) = (group / per_block, self.has_backup(group));
        let all = u64::from(self.inodes / self.inodes_per_group).div_ceil(per_block);
        let descriptors = match self.first_meta_bg {
            Some(first) if meta >= first => u64::from([0, 1, per_block - 1].contains(&(group % per_block))),
            first if backup => first.map_or(all, |first| all.min(first)),
            _ => 0,
        };
        u64::from(backup) + descriptors + if backup { reserved } else { 0 }
    }
}

fn is_power(number: u64, base: u64) -> bool {
    let mut rest = number;
    while rest > 1 && rest.is_multiple_of(base) {
        rest /= base;
    }
    rest == 1
}
