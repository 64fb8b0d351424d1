// SPDX-License-Identifier: MIT OR Apache-2.0

//! The block device that a filesystem is on, and what the kernel calls it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, major, minor};

use super::Mount;
use crate::sys::Dev;

/// The node of the mount's block device, not opened but found (`O_PATH`): under its own name, or, where
/// that leads elsewhere (`/dev/root`, another root directory), under those that udev and the kernel give it.
pub fn node(mount: &Mount) -> Result<OwnedFd, Errno> {
    let mut result = node_at(Path::new(&mount.source), mount.dev);
    let udev_name = format!("/dev/block/{}", mount.dev).into();
    for name in [Some(udev_name), path(mount.dev)].into_iter().flatten() {
        if result.is_err() {
            result = node_at(&name, mount.dev).or(result);
        }
    }
    result
}

/// The kernel's name of a device: `sda1`, `dm-0`.
pub fn name(dev: Dev) -> Option<OsString> {
    std::fs::read_link(format!("/sys/dev/block/{dev}")).ok()?.file_name().map(OsString::from)
}

/// Where the kernel would have a device's node: `/dev/sda1`.
pub fn path(dev: Dev) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/sys/dev/block/{dev}/uevent")).ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name))
}

/// `path`, if it is the block device `dev`.
fn node_at(path: &Path, dev: Dev) -> Result<OwnedFd, Errno> {
    let found = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let stat = fstat(&found)?;
    let is_it = stat.st_mode & libc::S_IFMT == libc::S_IFBLK
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (u64::from(dev.major), u64::from(dev.minor));
    if is_it { Ok(found) } else { Err(Errno::ENOTBLK) }
}
