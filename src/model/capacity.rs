// SPDX-License-Identifier: MIT OR Apache-2.0

//! How large a filesystem is, and what of it is taken, free or reserved.

use std::fmt;

use crate::model::bytes::{Bytes, Gap};

/// What `df` prints, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// `f_blocks`: what the filesystem offers, without its fixed overhead.
    pub size: Bytes,
    /// `f_blocks - f_bfree`.
    pub used: Bytes,
    /// `f_bfree`: what root may still use.
    pub free: Bytes,
    /// `f_bavail`: what everybody may still use.
    pub available: Bytes,
    /// `f_bfree - f_bavail`.
    pub reserved: Bytes,
    /// `f_files`; 0 where inodes are made as needed.
    pub inodes: u64,
    /// `f_ffree`.
    pub inodes_free: u64,
}

impl Figures {
    /// From `f_blocks`, `f_bfree` and `f_bavail` in units of so many bytes, and `f_files` and `f_ffree`, whatever
    /// they are.
    pub fn of(unit: u64, blocks: [u64; 3], [inodes, inodes_free]: [u64; 2]) -> Self {
        let [size, free, available] = blocks.map(|blocks| Bytes::claimed(blocks.saturating_mul(unit)));
        Self {
            size,
            used: size.saturating_sub(free),
            free,
            available,
            reserved: free.saturating_sub(available),
            inodes,
            inodes_free,
        }
    }
}

/// What `df` prints, and what it does not.
#[derive(Clone, Debug, Default)]
pub struct Capacity {
    /// What `df` prints; `used` is what was found to be used where a tmpfs without a limit counts nothing.
    pub figures: Figures,
    /// Who may use what is reserved on ext2/3/4.
    pub reserved_for: ReserveOwner,
    /// The size of the device, or of all devices of the filesystem; none where that is not known.
    pub device: Option<Bytes>,
    /// What of that is not in `figures.size`: where it is told, both add up to `device`, always.
    pub uncounted: Option<Vec<Detail>>,
    /// What ext2/3/4 set aside for `reserved_for`. This reserve and the next may be more than is free;
    /// `figures.reserved` is not.
    pub reserved_blocks: Option<Bytes>,
    /// What ext4 sets aside for itself.
    pub reserved_clusters: Option<Bytes>,
}

/// Who may use what ext2/3/4 reserve: root, unless the mount names others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReserveOwner {
    /// The user, where that is not root.
    pub uid: Option<u32>,
    /// The group, where that is not root's.
    pub gid: Option<u32>,
}

impl fmt::Display for ReserveOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.uid, self.gid) {
            (None, None) => f.write_str("root"),
            (None, Some(gid)) => write!(f, "root and GID {gid}"),
            (Some(uid), None) => write!(f, "UID {uid}"),
            (Some(uid), Some(gid)) => write!(f, "UID {uid} and GID {gid}"),
        }
    }
}

/// A named part of an amount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Its name.
    pub name: String,
    /// How much it is.
    pub bytes: Gap,
}
