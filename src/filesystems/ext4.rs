//! ext2, ext3 and ext4, read from the block device while they are mounted. With a journal there are
//! the superblock's chain of orphans and the orphan file (Documentation/filesystems/ext4/orphan.rst),
//! without one there are the inode tables.
//!
//! The page cache of the block device is the very memory in which ext4 keeps its metadata, so what
//! is read is live, without any sync, as long as it is read buffered.

mod attributes;
mod block_validity;
mod checksum;
mod confined;
mod covers;
mod doubts;
mod entries;
mod format;
mod groups;
mod iget;
#[cfg(any(test, fuzzing))]
mod in_memory;
mod inode;
mod inodes;
mod map;
mod nameless;
mod names;
mod orphans;
mod overhead;
mod own;
mod parallel;
mod settle;
mod slots;
#[cfg(test)]
mod table_tests;
mod tables;
#[cfg(test)]
mod tests;
mod tree;
mod volume;

use std::fs::File;
use std::num::NonZero;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, PosixFadviseAdvice, open, posix_fadvise};
use nix::sys::stat::Mode;

use self::format::CORRUPT;
#[cfg(fuzzing)]
pub use self::in_memory::look_everywhere;
use self::nameless::Nameless;
use self::overhead::Overhead;
use self::tables::{How, Tables};
use self::tree::Count;
use self::volume::{ReadAt, Volume};
use super::{Geometry, Handles, Internal, Part, Unable};
use crate::model::bytes::Bytes;
use crate::model::ledger::Term;
use crate::model::limits::Reserve;
use crate::model::monitor::Monitor;
use crate::model::usage::{Census, MountPoint, Options};
use crate::mounts::{Mount, device};
use crate::sys::Dev;
use crate::sys::handle::Handle;

/// `FILEID_INO32_GEN` of include/linux/exportfs.h: inode and generation.
const INODE_AND_GENERATION: libc::c_int = 1;

/// Longer than the kernel takes from one write to the next, also when it is interrupted there.
const PAUSE: Duration = Duration::from_millis(10);

/// Longer than the kernel takes to change an inode or a block of names.
const SHORT_PAUSE: Duration = Duration::from_millis(1);

/// Handles of all inodes without a name; `None` where their tables are not up to date. Some of those
/// noted as orphans still have one: files that are being truncated.
pub(super) fn handles(mount: &Mount) -> Result<Option<Handles>, Errno> {
    if !is_served_by_ext4(mount) {
        return Ok(None);
    }
    let found = confined::read(&open_device(mount)?, without_names)?.value;
    let handle = |Nameless { inode, generation }| Handle::new(INODE_AND_GENERATION, &[inode, generation]);
    let all = found.nameless.into_iter().map(handle).collect();
    Ok(Some(Handles { all, damaged: found.damaged }))
}

fn without_names(volume: &Volume<'_>) -> Result<nameless::Found, Errno> {
    if volume.is_journalled() {
        nameless::of_orphans(volume, orphans::list(volume, PAUSE)?)
    } else {
        // Then `ext4_orphan_add` does nothing (fs/ext4/orphan.c).
        nameless::in_tables(volume)
    }
}

/// How large the filesystem is made, and how large a directory on it can become.
pub(super) fn geometry(mount: &Mount) -> Result<Geometry, Errno> {
    let is_served = is_served_by_ext4(mount);
    let reserved_clusters = attribute(mount.dev, "reserved_clusters");
    let read = confined::read(&open_device(mount)?, |volume| {
        Ok(Geometry {
            parts: vec![Part { dev: Some(mount.dev), number: 1, size: Bytes(volume.size()) }],
            largest_directory: volume.largest_directory().map(Bytes),
            uncounted: is_served.then(|| uncounted(mount, volume)).flatten(),
            reserve: reserved_clusters.map(|clusters| reserve(volume, clusters)),
            btrfs: None,
        })
    })?;
    Ok(read.value)
}

/// What `ext4_statfs` (fs/ext4/super.c) takes away from the size.
fn uncounted(mount: &Mount, volume: &Volume<'_>) -> Option<Vec<Term>> {
    if counts_overhead(mount) {
        Some(Vec::new())
    } else {
        Overhead::read(volume).ok().map(Overhead::uncounted)
    }
}

/// What `ext4_statfs` takes away from what is free (Documentation/admin-guide/ext4.rst).
fn reserve(volume: &Volume<'_>, clusters: u64) -> Reserve {
    Reserve {
        blocks: Bytes(volume.reserved_blocks.saturating_mul(volume.block_size)),
        clusters: Bytes(clusters.saturating_mul(volume.cluster_size)),
    }
}

/// What lies below the root, and what the filesystem keeps for itself.
pub(super) fn census(
    mount: &Mount,
    mount_points: &[MountPoint<'_>],
    options: Options<'_>,
    monitor: &Monitor,
) -> Result<(Census, Internal), Unable> {
    let device = Watched { device: open_served(mount)?, monitor };
    let (how, before) = (how(options, monitor), delayed_blocks(mount.dev));
    let counts_overhead = counts_overhead(mount);
    let read = confined::read(&device, |volume| {
        let counted = match tree::count(volume, mount_points, options, how)? {
            Count::Whole(census, tables) => Ok((census, internal_of(volume, tables, counts_overhead)?)),
            Count::Damaged(tables) => Err(internal_of(volume, tables, counts_overhead).ok()),
        };
        Ok((counted, volume.block_size))
    })?;
    let (counted, block_size) = read.value;
    let (mut census, internal) = counted.map_err(|internal| Unable::Damaged(internal.map(Box::new)))?;
    let delayed = |blocks: u64| Bytes(blocks.saturating_mul(block_size));
    let (before, delayed) = (delayed(before), delayed(delayed_blocks(mount.dev)));
    // What has been written out meanwhile may have been missed.
    census.moved += (before - delayed).magnitude();
    Ok((census, Internal { delayed, unconfined: read.refusal, ..internal }))
}

/// What the filesystem keeps for itself, alone.
pub(super) fn internal(mount: &Mount, options: Options<'_>, monitor: &Monitor) -> Result<Internal, Unable> {
    let device = Watched { device: open_served(mount)?, monitor };
    let how = how(options, monitor);
    let read = confined::read(&device, |volume| {
        let (tables, _) = tables::read(volume, how)?;
        internal_of(volume, tables, counts_overhead(mount))
    })?;
    Ok(Internal { unconfined: read.refusal, ..read.value })
}

/// Whether `df` counts what lies at fixed places.
fn counts_overhead(mount: &Mount) -> bool {
    mount.has_option("minixdf")
}

fn open_served(mount: &Mount) -> Result<Device, Unable> {
    if !is_served_by_ext4(mount) {
        return Err(Unable::Filesystem(mount.fstype.clone()));
    }
    open_device(mount).map_err(Unable::Device)
}

fn how<'a>(options: Options<'_>, monitor: &'a Monitor) -> How<'a> {
    /// What a disk has to be asked for at once to be busy, where there are fewer processors.
    const FEWEST: NonZero<usize> = NonZero::<usize>::MIN.saturating_add(3);
    let cores = || std::thread::available_parallelism().map_or(FEWEST, |cores| cores.max(FEWEST));
    How { threads: options.threads.unwrap_or_else(cores), monitor }
}

fn internal_of(volume: &Volume<'_>, tables: Tables, counts_overhead: bool) -> Result<Internal, Errno> {
    let Tables { mut own, nameless, named, damaged } = tables;
    let (mut metadata, mut shared) = (own.metadata(volume), own.shared(volume)?);
    metadata.push(overhead::bad_blocks(volume)?);
    let overhead = Overhead::read(volume)?;
    if counts_overhead {
        metadata.extend(overhead.all());
    } else {
        metadata.push(overhead.counted_as_used());
        shared.push(overhead.missing());
    }
    Ok(Internal {
        metadata,
        shared,
        nameless: nameless.into_iter().map(|(inode, bytes)| (inode.into(), Bytes(bytes))).collect(),
        named,
        damaged,
        ..Internal::default()
    })
}

/// What has been promised to data that is still in memory only, and is in no inode on the device:
/// Documentation/ABI/testing/sysfs-fs-ext4. Nothing where that cannot be read.
fn delayed_blocks(dev: Dev) -> u64 {
    attribute(dev, "delayed_allocation_blocks").unwrap_or(0)
}

/// Whether what is read from below would miss data that is still in memory only.
pub(super) fn lags(mount: &Mount) -> bool {
    delayed_blocks(mount.dev) > 0 && open_served(mount).is_ok()
}

/// Whether ext4 serves a filesystem that may be mounted as ext2, as it does in most kernels
/// (`CONFIG_EXT4_USE_FOR_EXT2`). It writes every change of an inode to its table's page at once
/// (`ext4_mark_inode_dirty`); the older driver does so only when it writes to the disk (`ext2_write_inode`).
fn is_served_by_ext4(mount: &Mount) -> bool {
    mount.fstype != "ext2" || attributes(mount.dev).is_some_and(|path| path.exists())
}

/// Where ext4 says more of a mounted filesystem.
fn attributes(dev: Dev) -> Option<PathBuf> {
    Some(Path::new("/sys/fs/ext4").join(device::name(dev)?))
}

/// One of the numbers there.
fn attribute(dev: Dev, name: &str) -> Option<u64> {
    std::fs::read_to_string(attributes(dev)?.join(name)).ok()?.trim().parse().ok()
}

/// Opens the mount's block device for reading. No other device is even opened: that can have effects,
/// such as rewinding a tape.
fn open_device(mount: &Mount) -> Result<Device, Errno> {
    let node = device::node(mount)?;
    let link = format!("/proc/self/fd/{}", node.as_raw_fd());
    let open = |flags| open(link.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC | flags, Mode::empty());
    // Only the node's owner may leave its access time alone (open(2), `O_NOATIME`).
    let device = open(OFlag::O_NOATIME).or_else(|_| open(OFlag::empty()))?;
    // All that will be needed is announced: what the kernel would guess beyond that is read in vain.
    let _ = posix_fadvise(&device, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM);
    Ok(Device { file: device.into(), is_waited_for: AtomicBool::new(false) })
}

/// A mount's block device.
struct Device {
    file: File,
    /// Whether the disk had to be waited for. Until then all is taken to be in memory: then to announce what
    /// will be read takes the kernel a twentieth of the time of a run, and helps nobody.
    is_waited_for: AtomicBool,
}

/// Copying what is read at once takes a tenth of it, a fast disk twice as long.
const WAIT: Duration = Duration::from_micros(60);

/// A device, and who sees that it answers.
struct Watched<'a> {
    device: Device,
    monitor: &'a Monitor,
}

impl ReadAt for Watched<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let read = self.device.read_at(offset, buffer);
        self.monitor.beat();
        read
    }

    fn announce(&self, offset: u64, length: u64) {
        self.device.announce(offset, length);
    }
}

impl ReadAt for Device {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        let begun = Instant::now();
        let read = self.file.read_exact_at(buffer, offset).map_err(|error| match error.raw_os_error() {
            Some(code) => Errno::from_raw(code),
            // The device ends before the filesystem does.
            None => CORRUPT,
        });
        if begun.elapsed() > WAIT {
            self.is_waited_for.store(true, Ordering::Relaxed);
        }
        read
    }

    fn pause(&self) -> Duration {
        SHORT_PAUSE
    }

    fn announce(&self, offset: u64, length: u64) {
        if self.is_waited_for.load(Ordering::Relaxed)
            && let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into())
        {
            // Advice that is not taken only costs time.
            let _ = posix_fadvise(&self.file, offset, length, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
        }
    }
}
