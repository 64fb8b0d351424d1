// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which inodes belong to the filesystems asked for, and which must not be touched.

use std::path::{Path, PathBuf};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::traits::TraitsOf;
use crate::sys::Dev;
use crate::sys::stat::Stat;

/// What belongs to the filesystems asked for, and what must not be touched.
#[derive(Debug, Default)]
pub struct Places {
    /// The devices of each filesystem asked for, by its number: `st_dev`, and the superblock's, which
    /// on btrfs is another one and stands in /proc/PID/maps.
    pub devices: FxHashMap<Dev, usize>,
    /// Their mounts: on btrfs every subvolume has a device of its own.
    pub mounts: FxHashMap<u64, usize>,
    /// Mounts of servers that may be asked on every look-up of their root.
    pub served: FxHashSet<u64>,
    /// All mount points with their mounts, in the order in which they were mounted.
    pub mount_points: Vec<(PathBuf, u64)>,
    /// Where each of the filesystems asked for is mounted, and which part of it, by its number.
    pub shown: Vec<(PathBuf, PathBuf)>,
    /// What sets the mounts of other namespaces apart.
    pub traits_of: TraitsOf,
}

/// Where an inode belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To that one of the filesystems asked for.
    On(usize),
    /// Only its mount can tell: it is seen through an overlay, or on btrfs in another mount namespace.
    Unknown,
}

impl Places {
    /// Where an inode without a name belongs; `None` where it has one, or is on none of the filesystems
    /// asked for.
    pub(super) fn without_name(&self, stat: &Stat) -> Option<Place> {
        if stat.links > 0 && !stat.is_in_deleted_subvolume() {
            return None;
        }
        let by_mount = || self.mounts.get(&stat.mount?);
        match self.devices.get(&stat.dev).or_else(by_mount) {
            Some(&number) => Some(Place::On(number)),
            // Overlays and subvolumes have no device number of their own.
            None if stat.dev.major == 0 => Some(Place::Unknown),
            None => None,
        }
    }

    /// Whether following a link of /proc may wait for a server.
    pub(super) fn may_hang(&self) -> bool {
        !self.served.is_empty()
    }

    /// Whether a server answers for that mount.
    pub(super) fn is_served(&self, mount: u64) -> bool {
        self.served.contains(&mount)
    }

    /// Whether a path, as /proc shows it, lies on such a mount.
    pub(super) fn leads_to_a_server(&self, path: &Path) -> bool {
        self.mount_above(path).is_some_and(|mount| self.is_served(mount))
    }

    /// Which of the filesystems a path leads to, if any, by the names of the mount points alone.
    pub(super) fn filesystem_of(&self, path: &Path) -> Option<usize> {
        self.mounts.get(&self.mount_above(path)?).copied()
    }

    /// Where a path inside a filesystem is seen; `None` outside the part that is mounted.
    pub(super) fn path_of(&self, filesystem: usize, inside: &Path) -> Option<PathBuf> {
        let (mountpoint, root) = self.shown.get(filesystem)?;
        inside.strip_prefix(root).ok().map(|relative| mountpoint.join(relative))
    }

    fn mount_above(&self, path: &Path) -> Option<u64> {
        let above = self.mount_points.iter().filter(|(mount_point, _)| path.starts_with(mount_point));
        above.max_by_key(|(mount_point, _)| mount_point.components().count()).map(|(_, mount)| *mount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_point_decides_whether_a_server_is_asked() {
        let mount_points = vec![("/".into(), 1), ("/local".into(), 2), ("/local/far".into(), 3)];
        let places = Places { served: [1, 3].into_iter().collect(), mount_points, ..Places::default() };
        let asks = |path: &str| places.leads_to_a_server(Path::new(path));
        assert!(asks("/usr/bin/x") && asks("/local/far/x") && !asks("/local/x") && !asks("/local"));
    }

    #[test]
    fn a_path_inside_a_filesystem_and_where_it_is_seen() {
        let mount_points = vec![("/".into(), 1), ("/srv".into(), 2)];
        let shown = vec![("/srv".into(), "/data".into())];
        let places =
            Places { mounts: [(2, 0)].into_iter().collect(), mount_points, shown, ..Places::default() };
        assert_eq!(places.path_of(0, Path::new("/data/a/b")), Some("/srv/a/b".into()));
        assert_eq!(places.path_of(0, Path::new("/other")), None);
        assert_eq!(places.filesystem_of(Path::new("/srv/a")), Some(0));
        assert_eq!(places.filesystem_of(Path::new("/a")), None);
    }
}
