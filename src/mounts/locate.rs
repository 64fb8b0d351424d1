// SPDX-License-Identifier: MIT OR Apache-2.0

//! From a path to the filesystem that holds it, and to a descriptor of that
//! filesystem's root. Opens with `O_PATH`, which waits for no data and needs no right to read.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;

use super::error::Error;
use super::{Cover, Mount, Mounts, reach};
use crate::model::traits::TraitsOf;
use crate::sys::detached::within;
use crate::sys::getdents;
use crate::sys::mount::clone_detached;
use crate::sys::scout::Opened;
use crate::sys::stat::statx_fd;

/// A filesystem to explain.
#[derive(Debug)]
pub struct Target {
    /// The mount through which it is walked.
    pub mount: Mount,
    /// That mount's root, opened with `O_PATH`; or why it is not: `ETIMEDOUT` for no answer, `ENOENT`
    /// where other mounts lie over it.
    pub root: Result<Arc<OwnedFd>, Errno>,
    /// What is mounted on it.
    pub covers: Vec<Cover>,
    /// Set where PATH is on an overlay whose upper layer is this filesystem.
    pub overlay: Option<Overlay>,
}

/// The overlay through which a path was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The directory that holds what was written through it.
    pub upper: PathBuf,
    /// The inode numbers of that directory and of the work directory, where the target's walk comes
    /// by them.
    pub inodes: Vec<u64>,
}

/// Reads the mounts of this process's namespace. `traits_of` tells what the drivers say of each.
pub fn read_mounts(traits_of: TraitsOf) -> Result<Mounts, Error> {
    let text = std::fs::read("/proc/self/mountinfo").map_err(Error::Mountinfo)?;
    Ok(Mounts::parse(&text, traits_of))
}

/// The filesystem that holds `path`. One that does not answer within `timeout` is a target, too:
/// the report says so.
pub fn holding(path: &Path, mounts: &Mounts, timeout: Duration) -> Result<Target, Error> {
    let Some(opened) = reach::open(path, timeout) else {
        return mount_by_name(path, mounts).map(|mount| unopened(mount, Errno::ETIMEDOUT));
    };
    let fd = opened.map_err(|errno| Error::Path { path: path.to_owned(), source: errno.into() })?;
    let mount = mount_id(fd.as_fd())
        .and_then(|id| mounts.by_id(id))
        .ok_or_else(|| Error::UnlistedMount(path.to_owned()))?;
    if let Some(target) = upper_layer(mount, mounts, timeout) {
        return Ok(target);
    }
    let target = reachable(&mounts.ways_into(mount), mounts, timeout);
    target.map_err(|_| Error::OutOfReach { path: path.to_owned(), mountpoint: mount.mountpoint.clone() })
}

/// What lies beneath a mount point.
#[derive(Debug)]
pub struct Beneath {
    /// The filesystem, of which only what that mount point hides is to be listed.
    pub target: Target,
    /// The number of the mount that hides it.
    pub covering: u64,
    /// Whether that is an empty directory, as far as can be told.
    pub is_empty: bool,
}

/// The filesystem beneath `path`, if that is a mount point. What is mounted there need not answer.
pub fn beneath(path: &Path, mounts: &Mounts, timeout: Duration) -> Option<Beneath> {
    let covering = mounted_at(path, mounts, timeout)?;
    let below = mounts.beneath(covering)?;
    let hides = |cover: &&mut Cover| cover.mountpoint == covering.mountpoint;
    // Through another mount of the filesystem, what this one hides may well be seen.
    [mounts.ways_into(below), vec![below]].into_iter().find_map(|ways| {
        let mut target = reachable(&ways, mounts, timeout).ok()?;
        let cover = target.covers.iter_mut().find(hides)?;
        cover.listed = true;
        let is_empty = target.root.as_ref().is_ok_and(|root| is_empty(root, &cover.relative, timeout));
        Some(Beneath { target, covering: covering.id, is_empty })
    })
}

/// Whether an empty directory is all that lies beneath a mount point on the mount with that root. Not,
/// where that cannot be told.
fn is_empty(root: &Arc<OwnedFd>, mount_point: &Path, timeout: Duration) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let (root, mount_point) = (Arc::clone(root), mount_point.to_owned());
    let look = move || {
        let clone = clone_detached(root.as_fd())?;
        let directory = openat(clone, &mount_point, flags | OFlag::O_NOATIME, Mode::empty())?;
        let mut buffer = vec![0; 4096];
        let used = getdents::read(directory.as_fd(), &mut buffer)?;
        Ok::<_, Errno>(getdents::entries(buffer.get(..used).unwrap_or_default()).next().is_none())
    };
    within(timeout, look).is_some_and(|looked| looked == Ok(true))
}

/// The mount whose root `path` is, if it is one's.
fn mounted_at<'a>(path: &Path, mounts: &'a Mounts, timeout: Duration) -> Option<&'a Mount> {
    if let Some(Ok(fd)) = reach::open(path, timeout) {
        let mount = mounts.by_id(mount_id(fd.as_fd())?)?;
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
        return Some(mount).filter(|mount| mount.mountpoint == link);
    }
    let absolute = std::path::absolute(path).ok()?;
    mount_by_name(&absolute, mounts).ok().filter(|mount| mount.mountpoint == absolute)
}

/// Every local filesystem once, also those that do not answer or cannot be reached.
pub fn all_local(mounts: &Mounts, timeout: Duration) -> Vec<Target> {
    let filesystems = mounts.local_filesystems();
    let first = filesystems.iter().filter_map(|ways| ways.first());
    let first: Vec<PathBuf> = first.map(|way| way.mountpoint.clone()).collect();
    // Nearly always the first way to a filesystem is good.
    let opened = reach::open_all(&first, timeout);
    let target = |(ways, first): (&Vec<&Mount>, Option<Opened>)| {
        let (way, others) = ways.split_first()?;
        let others = others.iter().map(|way| (*way, reach::open(&way.mountpoint, timeout)));
        let target = first_that_leads_there(std::iter::once((*way, first)).chain(others), mounts);
        Some(target.unwrap_or_else(|errno| unopened(way, errno)))
    };
    filesystems.iter().zip(opened).filter_map(target).collect()
}

/// The first of `ways` whose mount point still leads to it. A bind mount of a directory in the
/// middle of a subvolume is taken only if nothing better is in reach.
fn reachable(ways: &[&Mount], mounts: &Mounts, timeout: Duration) -> Result<Target, Errno> {
    let opened = ways.iter().map(|way| (*way, reach::open(&way.mountpoint, timeout)));
    first_that_leads_there(opened, mounts)
}

fn first_that_leads_there<'a>(
    ways: impl Iterator<Item = (&'a Mount, Option<Opened>)>,
    mounts: &Mounts,
) -> Result<Target, Errno> {
    let mut second_best = Err(Errno::ENOENT);
    for (way, opened) in ways {
        let root = match opened {
            None => return Ok(unopened(way, Errno::ETIMEDOUT)),
            Some(Ok(root)) if mount_id(root.as_fd()) == Some(way.id) => root,
            Some(Ok(_covering)) => continue,
            Some(Err(errno)) => {
                second_best = second_best.or(Err(errno));
                continue;
            }
        };
        let subvolume_root = way.traits.subvolumes.and_then(|subvolumes| subvolumes.root_inode);
        let inside_a_subvolume =
            subvolume_root.is_some_and(|inode| statx_fd(root.as_fd()).is_ok_and(|stat| stat.inode != inode));
        let covers = mounts.covers_of(way);
        let target = Target { mount: (*way).clone(), root: Ok(Arc::new(root)), covers, overlay: None };
        if !inside_a_subvolume {
            return Ok(target);
        }
        second_best = second_best.or(Ok(target));
    }
    second_best
}

/// For an overlay: the filesystem of its upper layer, if that can be seen from here. In a
/// container it cannot: the directory is on the host's side.
fn upper_layer(mount: &Mount, mounts: &Mounts, timeout: Duration) -> Option<Target> {
    if !mount.is_overlay() {
        return None;
    }
    let upper = mount.directory_option("upperdir")?;
    let fd = reach::open(&upper, timeout)?.ok()?;
    let below = mounts.by_id(mount_id(fd.as_fd())?)?;
    let target = reachable(&mounts.ways_into(below), mounts, timeout).ok()?;
    // A directory of that name in a container is another one. overlayfs passes on the upper
    // layer's figures (fs/overlayfs/super.c, `ovl_statfs`), so they tell.
    let overlay = reach::open(&mount.mountpoint, timeout)?.ok()?;
    let size = |fd: &OwnedFd| fstatvfs(fd).map(|s| (s.blocks(), s.files(), s.fragment_size()));
    let same = size(&fd).is_ok_and(|upper| Ok(upper) == size(&overlay));
    let inodes = inodes_of(&[upper.clone(), mount.directory_option("workdir")?], &target, timeout);
    let overlay = Overlay { mountpoint: mount.mountpoint.clone(), upper, inodes };
    same.then_some(Target { overlay: Some(overlay), ..target })
}

/// The inode numbers of those of `directories` that are on the device of the target's root: in another
/// subvolume the same numbers are others'.
fn inodes_of(directories: &[PathBuf], target: &Target, timeout: Duration) -> Vec<u64> {
    let root = target.root.as_ref().ok().and_then(|root| statx_fd(root.as_fd()).ok());
    let stats =
        directories.iter().filter_map(|path| statx_fd(reach::open(path, timeout)?.ok()?.as_fd()).ok());
    stats.filter(|stat| root.is_some_and(|root| root.dev == stat.dev)).map(|stat| stat.inode).collect()
}

fn unopened(mount: &Mount, errno: Errno) -> Target {
    Target { mount: mount.clone(), root: Err(errno), covers: Vec::new(), overlay: None }
}

/// The mount a path that cannot be opened belongs to, by its name alone: the last one listed
/// among those whose mount point is the longest prefix.
fn mount_by_name<'a>(path: &Path, mounts: &'a Mounts) -> Result<&'a Mount, Error> {
    let absolute =
        std::path::absolute(path).map_err(|source| Error::Path { path: path.to_owned(), source })?;
    let above = mounts.iter().filter(|mount| absolute.starts_with(&mount.mountpoint));
    above
        .max_by_key(|mount| mount.mountpoint.components().count())
        .ok_or_else(|| Error::UnlistedMount(path.to_owned()))
}

/// The mount a descriptor belongs to: `mnt_id` in fdinfo, `proc_pid_fdinfo(5)`, Linux 3.15.
pub(super) fn mount_id(fd: BorrowedFd<'_>) -> Option<u64> {
    let fdinfo = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    fdinfo.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}
