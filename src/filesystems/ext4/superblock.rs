// SPDX-License-Identifier: MIT OR Apache-2.0

//! The superblock's fields, as they were read. No number in it is believed: `Volume` compares each with its
//! bounds.

use super::checksum::{Checksums, Descriptors};
use super::error::Error;
use super::format::{feature, superblock, u16_at, u32_at};
use super::volume::ReadAt;

/// The first ordinary inode in the first revision.
pub(super) const EXT4_GOOD_OLD_FIRST_INO: u32 = 11;
/// A block is 1 KiB at least and 64 KiB at most, a cluster 1 GiB (fs/ext4/ext4.h).
const EXT4_MIN_BLOCK_LOG_SIZE: u32 = 10;
const EXT4_MAX_BLOCK_LOG_SIZE: u32 = 16;
const EXT4_MAX_CLUSTER_LOG_SIZE: u32 = 30;

/// `s_feature_compat`, `s_feature_incompat`, `s_feature_ro_compat` as they were read.
#[derive(Clone, Copy)]
pub(super) struct Features {
    pub(super) compat: u32,
    pub(super) incompat: u32,
    pub(super) ro_compat: u32,
}

/// Which groups begin with a copy of the superblock.
pub(super) enum Backups {
    Everywhere,
    /// In the first two, and in those that are powers of 3, 5 and 7.
    Sparse,
    /// In two at most.
    Two([u64; 2]),
}

/// The superblock's fields, as they were read.
pub(super) struct Superblock([u8; superblock::SIZE]);

impl Superblock {
    pub(super) fn read(device: &dyn ReadAt) -> Result<Self, Error> {
        let mut raw = [0; superblock::SIZE];
        device.read_at(superblock::START, &mut raw)?;
        Ok(Self(raw))
    }

    pub(super) fn short(&self, offset: usize) -> Result<u16, Error> {
        u16_at(&self.0, offset)
    }

    pub(super) fn word(&self, offset: usize) -> Result<u32, Error> {
        u32_at(&self.0, offset)
    }

    pub(super) fn features(&self) -> Result<Features, Error> {
        Ok(Features {
            compat: self.word(superblock::S_FEATURE_COMPAT)?,
            incompat: self.word(superblock::S_FEATURE_INCOMPAT)?,
            ro_compat: self.word(superblock::S_FEATURE_RO_COMPAT)?,
        })
    }

    /// The sizes of a block and of a cluster.
    pub(super) fn unit_sizes(&self, features: Features) -> Result<(u64, u64), Error> {
        let log_block_size = self.word(superblock::S_LOG_BLOCK_SIZE)?;
        let bigalloc = features.ro_compat & feature::RO_COMPAT_BIGALLOC != 0;
        let log_cluster_size =
            if bigalloc { self.word(superblock::S_LOG_CLUSTER_SIZE)? } else { log_block_size };
        if log_block_size > EXT4_MAX_BLOCK_LOG_SIZE - EXT4_MIN_BLOCK_LOG_SIZE
            || log_cluster_size > EXT4_MAX_CLUSTER_LOG_SIZE - EXT4_MIN_BLOCK_LOG_SIZE
        {
            return Err(Error::Corrupt);
        }
        let bytes = |log: u32| 1 << (EXT4_MIN_BLOCK_LOG_SIZE + log);
        Ok((bytes(log_block_size), bytes(log_cluster_size)))
    }

    pub(super) fn backups(&self, features: Features) -> Result<Backups, Error> {
        if features.compat & feature::COMPAT_SPARSE_SUPER2 != 0 {
            let groups = [superblock::S_BACKUP_BGS, superblock::S_BACKUP_BGS + 4];
            Ok(Backups::Two([self.word(groups[0])?.into(), self.word(groups[1])?.into()]))
        } else if features.ro_compat & feature::RO_COMPAT_SPARSE_SUPER != 0 {
            Ok(Backups::Sparse)
        } else {
            Ok(Backups::Everywhere)
        }
    }

    /// What sums of metadata begin with; `None` without `metadata_csum`. Where the volume was not made for Linux, the
    /// kernel does not check inodes (`ext4_inode_csum_verify`, fs/ext4/inode.c), and nothing is checked here.
    pub(super) fn checksum_seed(&self, features: Features) -> Result<Option<u32>, Error> {
        let has_them = features.ro_compat & feature::RO_COMPAT_METADATA_CSUM != 0
            && self.word(superblock::S_CREATOR_OS)? == superblock::EXT4_OS_LINUX;
        Ok(if !has_them {
            None
        } else if features.incompat & feature::INCOMPAT_CSUM_SEED != 0 {
            Some(self.word(superblock::S_CHECKSUM_SEED)?)
        } else {
            Some(Checksums::seed_of(self.uuid()?))
        })
    }

    pub(super) fn desc_sums(&self, features: Features, size: u16) -> Result<Descriptors, Error> {
        Ok(match self.checksum_seed(features)? {
            Some(seed) => Descriptors::crc32c(seed, size),
            None if features.ro_compat & feature::RO_COMPAT_METADATA_CSUM != 0 => Descriptors::Unchecked,
            None if features.ro_compat & feature::RO_COMPAT_GDT_CSUM == 0 => Descriptors::Unchecked,
            None => Descriptors::crc16(self.uuid()?),
        })
    }

    fn uuid(&self) -> Result<&[u8], Error> {
        self.0.get(superblock::S_UUID).ok_or(Error::Corrupt)
    }

    pub(super) fn quotas(&self) -> Result<[u32; 3], Error> {
        Ok([
            self.word(superblock::S_USR_QUOTA_INUM)?,
            self.word(superblock::S_GRP_QUOTA_INUM)?,
            self.word(superblock::S_PRJ_QUOTA_INUM)?,
        ])
    }
}
