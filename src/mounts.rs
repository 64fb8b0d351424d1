// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which mounts there are, which filesystem a path is on, and what is mounted over it.

pub mod device;
mod error;
pub mod locate;
pub mod mountinfo;
pub mod reach;
pub mod whole;

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::model::identity::DeviceNumber;
use crate::model::traits::{Storage, Traits, TraitsOf};
use crate::sys::Dev;

pub use error::Error;

impl From<Dev> for DeviceNumber {
    fn from(dev: Dev) -> Self {
        let Dev { major, minor } = dev;
        Self { major, minor }
    }
}

/// One line of mountinfo: `proc_pid_mountinfo(5)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, unique while it exists.
    pub id: u64,
    /// The mount it is mounted on.
    pub parent: u64,
    /// The superblock's device: one for a whole filesystem, also on btrfs.
    pub dev: Dev,
    /// The part of the filesystem that is mounted.
    pub root: PathBuf,
    /// Where, as this process sees it.
    pub mountpoint: PathBuf,
    /// `ext4`, `fuse.sshfs`, ...
    pub fstype: String,
    /// What the driver of its type says of it.
    pub traits: Traits,
    /// What is mounted: a device node, `server:/path`, or any word.
    pub source: OsString,
    /// The superblock's options, comma-separated, as escaped in mountinfo: unescaping them
    /// before they are split would make separators of the commas in their values.
    pub options: Vec<u8>,
}

impl Mount {
    /// Whether its data lives on this machine, in memory or on a disk, and may grow.
    pub fn is_local(&self) -> bool {
        match self.traits.storage {
            Storage::Memory | Storage::Devices => true,
            Storage::Device => self.dev.major != 0,
            Storage::ReadOnlyImage | Storage::Layers | Storage::Server { .. } => false,
        }
    }

    /// Whether its files take up memory instead of a disk.
    pub fn is_in_memory(&self) -> bool {
        self.traits.is_in_memory()
    }

    /// Whether the kernel asks a server also when a link of /proc leads to its root.
    pub fn asks_a_server(&self) -> bool {
        self.traits.storage == Storage::Server { revalidates_root: true }
    }

    /// Whether it keeps no data of its own.
    pub fn is_overlay(&self) -> bool {
        self.traits.is_overlay()
    }

    /// Whether directories of other devices can lie inside it without any mount.
    pub fn has_subvolumes(&self) -> bool {
        self.traits.subvolumes.is_some()
    }

    /// Whether the superblock has this option, which takes no value.
    pub fn has_option(&self, name: &str) -> bool {
        split_unescaped(&self.options, b',').contains(&name.as_bytes())
    }

    /// The value of one of the superblock's options.
    pub fn option(&self, name: &str) -> Option<Vec<u8>> {
        let options = split_unescaped(&self.options, b',').into_iter();
        let mut values =
            options.filter_map(|option| option.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        values.next().map(mountinfo::unescape)
    }

    /// A directory named in the superblock's options, such as overlayfs's `upperdir`, in whose
    /// value `\` escapes itself, `,` and `:` (Documentation/filesystems/overlayfs.rst).
    pub fn directory_option(&self, name: &str) -> Option<PathBuf> {
        self.option(name).map(|value| OsString::from_vec(unescape_backslashes(&value)).into())
    }
}

fn split_unescaped(bytes: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut escaped = false;
    bytes
        .split(|&byte| {
            let splits = byte == separator && !escaped;
            escaped = byte == b'\\' && !escaped;
            splits
        })
        .collect()
}

fn unescape_backslashes(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        plain.push(if byte == b'\\' { *rest.next().unwrap_or(&byte) } else { byte });
    }
    plain
}

/// All mounts of this process's mount namespace, in the kernel's order.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    all: Vec<Mount>,
    traits_of: TraitsOf,
}

/// A mount point on a filesystem, which hides the name beneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    /// Where it is: an absolute path.
    pub mountpoint: PathBuf,
    /// The same, relative to the root of the covered mount.
    pub relative: PathBuf,
    /// Whether the largest of what it hides is asked for by name.
    pub listed: bool,
}

impl Mounts {
    /// The mounts that the text of a mountinfo file lists.
    pub fn parse(text: &[u8], traits_of: TraitsOf) -> Self {
        Self { all: mountinfo::parse(text, traits_of), traits_of }
    }

    /// Tells what the drivers say, for mounts of other namespaces.
    pub fn traits_of(&self) -> TraitsOf {
        self.traits_of
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.all.iter()
    }

    /// The mount with that number.
    pub fn by_id(&self, id: u64) -> Option<&Mount> {
        self.all.iter().find(|mount| mount.id == id)
    }

    /// What is mounted directly on `mount`, each mount point once.
    pub fn covers_of(&self, mount: &Mount) -> Vec<Cover> {
        let mut seen = HashSet::new();
        let below = self.all.iter().filter(|other| other.parent == mount.id && other.id != mount.id);
        below
            .filter_map(|other| {
                let relative = other.mountpoint.strip_prefix(&mount.mountpoint).ok()?;
                let cover = || Cover {
                    mountpoint: other.mountpoint.clone(),
                    relative: relative.to_owned(),
                    listed: false,
                };
                (relative != Path::new("") && seen.insert(relative)).then(cover)
            })
            .collect()
    }

    /// What `mount` is mounted on, with nothing else mounted at the same place in between. `None` where
    /// nothing is beneath it.
    pub fn beneath(&self, mount: &Mount) -> Option<&Mount> {
        let mut below = self.by_id(mount.parent)?;
        while below.mountpoint == mount.mountpoint {
            below = self.by_id(below.parent).filter(|next| next.id != below.id)?;
        }
        Some(below)
    }

    /// The mounts through which the filesystem of `mount` can be walked, best first: those that
    /// show all of it, then `mount` itself. With subvolumes, those whose root leads to the root of
    /// `mount`, from the nearest up.
    pub fn ways_into(&self, mount: &Mount) -> Vec<&Mount> {
        let mut ways: Vec<_> = self
            .all
            .iter()
            .filter(|other| other.dev == mount.dev && mount.root.starts_with(&other.root))
            .collect();
        let depth = |path: &Path| path.components().count();
        if mount.has_subvolumes() {
            ways.sort_by_key(|way| (std::cmp::Reverse(depth(&way.root)), way.id != mount.id));
        } else {
            ways.sort_by_key(|way| (depth(&way.root), way.id != mount.id));
        }
        ways
    }

    /// For every local filesystem the mounts that show it, those that show most of it first.
    pub fn local_filesystems(&self) -> Vec<Vec<&Mount>> {
        let mut seen = HashSet::new();
        let local = self.all.iter().filter(|mount| mount.is_local());
        local
            .filter(|mount| seen.insert(mount.dev))
            .map(|mount| {
                let mut ways: Vec<_> = self.all.iter().filter(|other| other.dev == mount.dev).collect();
                ways.sort_by_key(|way| way.root.components().count());
                ways
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::traits::Subvolumes;

    const TABLE: &[u8] = b"\
        21 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n\
        22 21 0:21 / /proc rw - proc proc rw\n\
        23 21 259:3 / /var/lib rw - xfs /dev/nvme0n1p3 rw\n\
        24 23 259:2 /srv/data /var/lib/data rw - ext4 /dev/nvme0n1p2 rw\n\
        25 21 0:40 / /mnt/nfs rw - nfs4 server:/export rw\n\
        26 21 0:41 / /run rw - tmpfs tmpfs rw\n\
        27 26 0:42 / /run/auto rw - autofs systemd-1 rw\n\
        28 21 7:1 / /snap/core ro - squashfs /dev/loop1 ro\n\
        29 21 0:43 /@ /btr rw - btrfs /dev/sdb rw,subvol=/@\n\
        30 29 0:43 /@/var/lib /btr/x rw - btrfs /dev/sdb rw,subvol=/@\n\
        31 21 0:44 / /merged rw - overlay overlay rw,lowerdir=/l,upperdir=/u\\134\\054p,workdir=/w\n";

    fn mounts(table: &[u8]) -> Mounts {
        Mounts::parse(
            table,
            TraitsOf(|fstype| {
                let (storage, subvolumes) = match fstype {
                    "nfs4" => (Storage::Server { revalidates_root: true }, None),
                    "tmpfs" => (Storage::Memory, None),
                    "squashfs" => (Storage::ReadOnlyImage, None),
                    "btrfs" => (Storage::Devices, Some(Subvolumes { root_inode: None })),
                    "overlay" => (Storage::Layers, None),
                    _ => (Storage::Device, None),
                };
                Traits { storage, subvolumes, ..Traits::default() }
            }),
        )
    }

    #[test]
    fn each_local_filesystem_comes_once() {
        let mounts = mounts(TABLE);
        let ids: Vec<Vec<u64>> =
            mounts.local_filesystems().iter().map(|ways| ways.iter().map(|m| m.id).collect()).collect();
        assert_eq!(ids, [vec![21, 24], vec![23], vec![26], vec![29, 30]]);
    }

    #[test]
    fn a_bind_mount_leads_to_the_mount_of_the_root() {
        let mounts = mounts(TABLE);
        let ways = |id| mounts.ways_into(mounts.by_id(id).unwrap()).iter().map(|m| m.id).collect::<Vec<_>>();
        assert_eq!(ways(24), [21, 24]);
        assert_eq!(ways(21), [21]);
        assert_eq!(ways(30), [30, 29], "a subvolume's own mount before the one that contains it");
    }

    #[test]
    fn covers_are_the_mounts_directly_on_it() {
        let mounts = mounts(TABLE);
        let covers = mounts.covers_of(mounts.by_id(21).unwrap());
        let relative: Vec<_> = covers.iter().map(|c| c.relative.to_str().unwrap()).collect();
        assert_eq!(relative, ["proc", "var/lib", "mnt/nfs", "run", "snap/core", "btr", "merged"]);
    }

    #[test]
    fn what_lies_beneath_is_what_a_stack_of_mounts_stands_on() {
        let stacked = [TABLE, b"32 22 0:45 / /proc rw - tmpfs tmpfs rw\n"].concat();
        let mounts = mounts(&stacked);
        let beneath = |id| mounts.beneath(mounts.by_id(id).unwrap()).map(|mount| mount.id);
        assert_eq!(
            (beneath(32), beneath(22), beneath(24), beneath(21)),
            (Some(21), Some(21), Some(23), None)
        );
    }

    #[test]
    fn an_overlay_names_its_upper_layer() {
        let mounts = mounts(TABLE);
        let overlay = mounts.by_id(31).unwrap();
        assert_eq!(overlay.directory_option("upperdir"), Some("/u,p".into()));
        assert_eq!(overlay.directory_option("upper"), None);
    }
}
