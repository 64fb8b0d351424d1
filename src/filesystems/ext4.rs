// SPDX-License-Identifier: MIT OR Apache-2.0

//! ext2, ext3 and ext4, read from the block device while they are mounted. With a journal there are
//! the superblock's chain of orphans and the orphan file (Documentation/filesystems/ext4/orphan.rst),
//! without one there are the inode tables.
//!
//! The page cache of the block device is the very memory in which ext4 keeps its metadata, so what
//! is read is live, without any sync, as long as it is read buffered.

mod block_map;
mod block_validity;
mod checksum;
mod confined;
mod device;
mod dirent;
mod error;
mod format;
mod group_desc;
mod iget;
#[cfg(any(test, fuzzing))]
mod in_memory;
mod inode;
mod inode_scan;
mod inode_table;
#[cfg(test)]
mod inode_table_tests;
mod limits;
mod mount_points;
mod names;
mod orphans;
mod overhead;
mod parallel;
mod recheck;
mod reread;
mod reserved_inodes;
mod slots;
mod superblock;
#[cfg(test)]
mod tests;
mod tree;
mod unlinked;
mod volume;
mod xattr;

use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

use self::error::Error;
#[cfg(fuzzing)]
pub use self::in_memory::look_everywhere;
use self::inode_table::{How, Tables};
use self::overhead::Overhead;
use self::tree::Count;
use self::unlinked::UnlinkedInode;
use self::volume::Volume;
use super::Unable;
use super::driver::{Driver, Internal, Mounted, Request};
use super::unlinked::Handles;
use crate::model::bytes::Bytes;
use crate::model::limits::Limits;
use crate::model::traits::{Command, ReservedFor, Storage, Tools, Traits};
use crate::model::usage::Census;
use crate::mounts::Mount;
use crate::sys::handle::Handle;

/// The driver.
pub(super) struct Ext4;

/// Tells whether the volume is damaged.
const CHECK: Command = Command("e2fsck -n {device}");

/// `FILEID_INO32_GEN` of include/linux/exportfs.h: inode and generation.
const INODE_AND_GENERATION: libc::c_int = 1;

/// Longer than the kernel takes from one write to the next, also when it is interrupted there.
const PAUSE: Duration = Duration::from_millis(10);

impl Driver for Ext4 {
    fn serves(&self, fstype: &str) -> bool {
        matches!(fstype, "ext2" | "ext3" | "ext4")
    }

    fn traits(&self, _fstype: &str) -> Traits {
        Traits {
            storage: Storage::Device,
            subvolumes: None,
            shared_extents: false,
            one_superblock_per_device: true,
            reserved_for: ReservedFor::Root,
            unchecked_counters: true,
            tools: Tools {
                check: Some(CHECK),
                repair: Some(Command("e2fsck -f {device}")),
                is_repaired_at_boot: true,
                grow: Some(Command("resize2fs {device}")),
                shrink_reserve: Some(Command("tune2fs -m 1 {device}")),
                add_inodes: None,
                large_directories: Some(Command("tune2fs -O large_dir {device}")),
                unlimited_directories: Some(Command("mount -o remount,max_dir_size_kb=0 {mountpoint}")),
            },
        }
    }

    /// `None` where the inode tables are not up to date. Some of those noted as orphans still have a name:
    /// files that are being truncated.
    fn handles(&self, on: Mounted<'_>) -> Result<Option<Handles>, Unable> {
        if !device::is_served_by_ext4(on.mount) {
            return Ok(None);
        }
        let device = device::open(on.mount).map_err(Unable::Device)?;
        let found = confined::read(&device, without_names)?.value;
        let handle =
            |UnlinkedInode { inode, generation }| Handle::new(INODE_AND_GENERATION, &[inode, generation]);
        let all = found.all.into_iter().map(handle).collect();
        Ok(Some(Handles { all, damaged: found.damaged, deleted_subvolumes: 0 }))
    }

    fn census(&self, on: Mounted<'_>, request: &Request<'_>) -> Result<(Census, Internal), Unable> {
        let mount = on.mount;
        if mount.root != Path::new("/") {
            return Err(Unable::Part);
        }
        if request.mount_points.iter().any(|point| point.listed) {
            return Err(Unable::Listed);
        }
        let device = device::open_served(mount)?.watched_by(request.monitor);
        let (how, before) = (how(request), device::delayed_blocks(mount.dev));
        let read = confined::read(&device, |volume| {
            let counted = match tree::count(volume, request.mount_points, request.options, how)? {
                Count::Whole(census, tables) => {
                    Ok((census, internal_of(volume, tables, counts_overhead(mount))?))
                }
                Count::Damaged(tables) => Err(internal_of(volume, tables, counts_overhead(mount)).ok()),
            };
            Ok((counted, volume.block_size))
        })?;
        let (counted, block_size) = read.value;
        let (mut census, internal) = counted.map_err(error::damaged)?;
        let delayed = |blocks: u64| Bytes(blocks.saturating_mul(block_size));
        let (before, delayed) = (delayed(before), delayed(device::delayed_blocks(mount.dev)));
        // What has been written out meanwhile may have been missed.
        census.moved += (before - delayed).magnitude();
        Ok((census, Internal { delayed, unconfined: read.refusal, ..internal }))
    }

    fn internal(&self, on: Mounted<'_>, request: &Request<'_>) -> Result<Internal, Unable> {
        let device = device::open_served(on.mount)?.watched_by(request.monitor);
        let how = how(request);
        let read = confined::read(&device, |volume| {
            let (tables, _) = inode_table::read(volume, how)?;
            internal_of(volume, tables, counts_overhead(on.mount))
        })?;
        Ok(Internal { unconfined: read.refusal, ..read.value })
    }

    fn lags(&self, mount: &Mount) -> bool {
        device::delayed_blocks(mount.dev) > 0 && device::open_served(mount).is_ok()
    }

    fn limits(&self, on: Mounted<'_>, timeout: Duration) -> Limits {
        limits::read(on, timeout)
    }

    fn errors(&self, mount: &Mount) -> Option<u64> {
        limits::errors(mount)
    }
}

fn without_names(volume: &Volume<'_>) -> Result<unlinked::UnlinkedInodes, Error> {
    if volume.is_journalled() {
        unlinked::of_orphans(volume, orphans::list(volume, PAUSE)?)
    } else {
        // Then `ext4_orphan_add` does nothing (fs/ext4/orphan.c).
        unlinked::in_tables(volume)
    }
}

/// Whether `df` counts what lies at fixed places.
fn counts_overhead(mount: &Mount) -> bool {
    mount.has_option("minixdf")
}

fn how<'a>(request: &Request<'a>) -> How<'a> {
    /// What a disk has to be asked for at once to be busy, where there are fewer processors.
    const FEWEST: NonZero<usize> = NonZero::<usize>::MIN.saturating_add(3);
    let cores = || std::thread::available_parallelism().map_or(FEWEST, |cores| cores.max(FEWEST));
    How { threads: request.options.threads.unwrap_or_else(cores), monitor: request.monitor }
}

fn internal_of(volume: &Volume<'_>, tables: Tables, counts_overhead: bool) -> Result<Internal, Error> {
    let Tables { mut internal, nameless, named, damaged } = tables;
    let (mut metadata, mut shared) = (internal.metadata(volume), internal.shared(volume)?);
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
