//! Which inodes belong to the filesystems asked for, and which must not be touched.

use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;

use crate::sys::Dev;
use crate::sys::stat::Stat;

/// What belongs to the filesystems asked for, and what must not be touched.
#[derive(Debug, Default)]
pub struct Places {
    /// `st_dev` of each filesystem asked for, by its number.
    pub devices: FxHashMap<Dev, usize>,
    /// Their mounts: on btrfs every subvolume has a device of its own.
    pub mounts: FxHashMap<u64, usize>,
    /// Mounts of servers whose root may be asked for on every look-up, and their mount points.
    pub served: FxHashMap<u64, PathBuf>,
}

impl Places {
    /// For an inode without a name: which of the filesystems it is on, if any.
    pub(super) fn without_name(&self, stat: &Stat) -> Option<usize> {
        if stat.links > 0 {
            return None;
        }
        let by_mount = || self.mounts.get(&stat.mount?);
        self.devices.get(&stat.dev).or_else(by_mount).copied()
    }

    /// Whether following a link of /proc may wait for a server.
    pub(super) fn may_hang(&self) -> bool {
        !self.served.is_empty()
    }

    /// Whether a server answers for that mount.
    pub(super) fn is_served(&self, mount: u64) -> bool {
        self.served.contains_key(&mount)
    }

    /// Whether a path, as /proc shows it, lies on such a mount.
    pub(super) fn leads_to_a_server(&self, path: &Path) -> bool {
        self.served.values().any(|mountpoint| path.starts_with(mountpoint))
    }
}
