// SPDX-License-Identifier: MIT OR Apache-2.0

//! What limits ext2, ext3 and ext4 besides their bytes.

use std::time::Duration;

use super::confined;
use super::device::{self, attribute};
use super::overhead::Overhead;
use super::volume::Volume;
use super::{Unable, counts_overhead};
use crate::filesystems::driver::{Geometry, MemberDevice, Mounted};
use crate::filesystems::limits;
use crate::model::bytes::Bytes;
use crate::model::ledger::Term;
use crate::model::limits::{Limits, Refusal, Reserve};
use crate::mounts::Mount;

/// What the superblock says.
struct Superblock {
    geometry: Geometry,
    /// How large a directory can become before its index is full, if it has one that can be.
    largest_directory: Option<Bytes>,
    /// What it keeps from ordinary users.
    reserve: Option<Reserve>,
}

pub(super) fn read(on: Mounted<'_>, timeout: Duration) -> Limits {
    let errors = errors(on.mount);
    let superblock = superblock(on.mount).ok();
    let superblock = superblock.as_ref();
    let common = limits::read(on, superblock.map(|superblock| &superblock.geometry), timeout);
    // The device is known also where it cannot be opened.
    let device_size = match superblock {
        Some(_) => common.device_size,
        None => limits::device::capacity(on.mount.dev),
    };
    Limits {
        refuses: refusal(on.mount, errors),
        errors,
        directory: directory(on.mount),
        directory_index: superblock.and_then(|superblock| superblock.largest_directory),
        device_size,
        reserve: superblock.and_then(|superblock| superblock.reserve),
        ..common
    }
}

/// `errors_count` of Documentation/ABI/testing/sysfs-fs-ext4.
pub(super) fn errors(mount: &Mount) -> Option<u64> {
    attribute(mount.dev, "errors_count")
}

/// Since Linux 6.14 ext4 says so itself (fs/ext4/super.c, `_ext4_show_options`). Before 6.12 it turned
/// read-only like one that was mounted so, and only the errors tell the difference. Between, and on stable
/// kernels with the same change, nothing does: then the errors alone are told.
fn refusal(mount: &Mount, errors: Option<u64>) -> Option<Refusal> {
    let noted = errors.is_some_and(|errors| errors > 0);
    if mount.has_option("shutdown") {
        Some(Refusal::ShutDown)
    } else if mount.has_option("emergency_ro") || noted && mount.has_option("ro") {
        Some(Refusal::ReadOnly)
    } else {
        None
    }
}

/// `max_dir_size_kb`, ext4(5).
fn directory(mount: &Mount) -> Option<Bytes> {
    let value = mount.option("max_dir_size_kb")?;
    let kib: u64 = std::str::from_utf8(&value).ok()?.parse().ok()?;
    (kib > 0).then(|| Bytes(kib.saturating_mul(1024)))
}

/// How large the filesystem is made, and how large a directory on it can become.
fn superblock(mount: &Mount) -> Result<Superblock, Unable> {
    let is_served = device::is_served_by_ext4(mount);
    let reserved_clusters = attribute(mount.dev, "reserved_clusters");
    let device = device::open(mount).map_err(Unable::Device)?;
    let read = confined::read(&device, |volume| {
        let member = MemberDevice { dev: Some(mount.dev), number: 1, size: Bytes(volume.size()) };
        let uncounted = is_served.then(|| uncounted(mount, volume)).flatten();
        Ok(Superblock {
            geometry: Geometry { devices: vec![member], uncounted },
            largest_directory: volume.largest_directory().map(Bytes),
            reserve: reserved_clusters.map(|clusters| reserve(volume, clusters)),
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
