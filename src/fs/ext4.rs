//! ext2, ext3 and ext4, read from the block device while they are mounted. With a journal there are
//! the superblock's chain of orphans and the orphan file (Documentation/filesystems/ext4/orphan.rst),
//! without one there are the inode tables.
//!
//! The page cache of the block device is the very memory in which ext4 keeps its metadata, so what
//! is read is live, without any sync, as long as it is read buffered.

mod groups;
mod inodes;
mod layout;
mod nameless;
mod orphans;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, major, minor};

use self::layout::{ReadAt, Volume};
use crate::mounts::Mount;
use crate::sys::Dev;
use crate::sys::handle::Handle;

/// `FILEID_INO32_GEN` of include/linux/exportfs.h: inode and generation.
const INODE_AND_GENERATION: libc::c_int = 1;

/// Longer than the kernel takes from one write to the next, also when it is interrupted there.
const PAUSE: Duration = Duration::from_millis(10);

/// Handles of all inodes without a name; `None` where their tables are not up to date. Some of those
/// noted as orphans still have one: files that are being truncated.
pub(super) fn handles(mount: &Mount) -> Result<Option<Vec<Handle>>, Errno> {
    if mount.fstype == "ext2" && !is_served_by_ext4(mount.dev) {
        return Ok(None);
    }
    let device = open_device(mount)?;
    let volume = Volume::open(&device)?;
    let handle = |inode, generation| Handle::new(INODE_AND_GENERATION, &[inode, generation]);
    if !volume.is_journalled() {
        // Then `ext4_orphan_add` does nothing (fs/ext4/orphan.c).
        let found = nameless::list(&volume)?.into_iter();
        return Ok(Some(found.map(|found| handle(found.inode, found.generation)).collect()));
    }
    let orphans = orphans::list(&volume, PAUSE)?.into_iter();
    orphans.map(|inode| Ok(handle(inode, volume.generation(inode)?))).collect::<Result<_, Errno>>().map(Some)
}

/// Whether ext4 serves a filesystem that is mounted as ext2, as it does in most kernels
/// (`CONFIG_EXT4_USE_FOR_EXT2`). It writes every change of an inode to its table's page at once
/// (`ext4_mark_inode_dirty`); the older driver does so only when it writes to the disk (`ext2_write_inode`).
fn is_served_by_ext4(dev: Dev) -> bool {
    let name = std::fs::read_link(format!("/sys/dev/block/{dev}"));
    let name = name.ok().and_then(|link| link.file_name().map(ToOwned::to_owned));
    name.is_some_and(|name| Path::new("/sys/fs/ext4").join(name).exists())
}

/// The mount's block device under its own name, or, where that leads elsewhere (`/dev/root`, another
/// root directory), under those that udev and the kernel give it.
fn open_device(mount: &Mount) -> Result<File, Errno> {
    let mut result = open_if(Path::new(&mount.source), mount.dev);
    let udev_name = format!("/dev/block/{}", mount.dev).into();
    for name in [Some(udev_name), kernel_name(mount.dev)].into_iter().flatten() {
        if result.is_err() {
            result = open_if(&name, mount.dev).or(result);
        }
    }
    result
}

fn kernel_name(dev: Dev) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/sys/dev/block/{dev}/uevent")).ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name))
}

/// Opens `path` for reading if it is the block device `dev`. Any other device is not even opened:
/// that can have effects, such as rewinding a tape.
fn open_if(path: &Path, dev: Dev) -> Result<File, Errno> {
    let found: OwnedFd = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let stat = fstat(&found)?;
    let is_it = stat.st_mode & libc::S_IFMT == libc::S_IFBLK
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (u64::from(dev.major), u64::from(dev.minor));
    if !is_it {
        return Err(Errno::ENOTBLK);
    }
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    open(link.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map(File::from)
}

impl ReadAt for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        self.read_exact_at(buffer, offset).map_err(|error| match error.raw_os_error() {
            Some(code) => Errno::from_raw(code),
            // The device ends before the filesystem does.
            None => Errno::EUCLEAN,
        })
    }
}
