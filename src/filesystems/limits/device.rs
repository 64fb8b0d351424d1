// SPDX-License-Identifier: MIT OR Apache-2.0

//! What sysfs tells of block devices: their size, and the file behind a loop device.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::fstatvfs;

use crate::filesystems::driver::MemberDevice;
use crate::model::bytes::Bytes;
use crate::model::limits::{Device, Image};
use crate::mounts::{device, reach};
use crate::sys::Dev;
use crate::sys::loop_device::{BackingFile, backing_file};
use crate::sys::stat::statx_fd;

/// sysfs counts sectors of that many bytes, whatever the device's are.
const SECTOR: u64 = 512;

fn directory(dev: Dev) -> PathBuf {
    Path::new("/sys/dev/block").join(dev.to_string())
}

/// The number that a file of sysfs holds.
pub(in crate::filesystems) fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn size(directory: &Path) -> Option<u64> {
    number(&directory.join("size"))?.checked_mul(SECTOR)
}

/// How large a device is.
pub(in crate::filesystems) fn capacity(dev: Dev) -> Option<Bytes> {
    size(&directory(dev)).map(Bytes)
}

/// The devices that a filesystem is on, as large as they are.
pub(super) fn all(members: &[MemberDevice]) -> Vec<Device> {
    let known = |member: &MemberDevice| {
        let dev = member.dev?;
        let node = device::path(dev)?;
        Some(Device { number: member.number, node, size: capacity(dev)?, used: member.size })
    };
    members.iter().filter_map(known).collect()
}

/// The file behind a loop device or a partition of one, if that can be seen from here. The name alone
/// would not do: it is as in the mount namespace of whoever set the device up, and may have been given
/// to another file since.
pub(super) fn image(dev: Dev, timeout: Duration) -> Option<Image> {
    let own = directory(dev);
    let whole = if own.join("partition").exists() { own.join("..") } else { own };
    let settings = whole.join("loop");
    let BackingFile::Named(path) = backing_file(&whole)? else { return None };
    let file = reach::open(&path, timeout)?.ok()?;
    let stat = statx_fd(file.as_fd()).ok()?;
    let length = stat.size.checked_sub(number(&settings.join("offset"))?)?;
    let length = match number(&settings.join("sizelimit"))? {
        0 => length,
        limit => length.min(limit),
    };
    if stat.mode & libc::S_IFMT != libc::S_IFREG || length / SECTOR * SECTOR != size(&whole)? {
        return None;
    }
    let host = fstatvfs(file.as_fd()).ok()?;
    Some(Image {
        path,
        holes: Bytes(stat.size.saturating_sub(stat.allocated)),
        available: Bytes::claimed(host.blocks_available().saturating_mul(host.fragment_size())),
    })
}
