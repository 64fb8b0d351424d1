// SPDX-License-Identifier: MIT OR Apache-2.0

//! The block device, and what sysfs says of the filesystem on it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{self, OFlag, PosixFadviseAdvice, posix_fadvise};
use nix::sys::stat::Mode;

use super::error::Error;
use super::volume::ReadAt;
use crate::filesystems::Unable;
use crate::model::monitor::Monitor;
use crate::mounts::{Mount, device};
use crate::sys::Dev;

/// Longer than the kernel takes to change an inode or a block of names.
const SHORT_PAUSE: Duration = Duration::from_millis(1);

/// Opens the device of a mount whose inode tables are up to date.
pub(super) fn open_served(mount: &Mount) -> Result<Device, Unable> {
    if !is_served_by_ext4(mount) {
        return Err(Unable::Filesystem(mount.fstype.clone()));
    }
    open(mount).map_err(Unable::Device)
}

/// What has been promised to data that is still in memory only, and is in no inode on the device:
/// Documentation/ABI/testing/sysfs-fs-ext4. Nothing where that cannot be read.
pub(super) fn delayed_blocks(dev: Dev) -> u64 {
    attribute(dev, "delayed_allocation_blocks").unwrap_or(0)
}

/// Whether ext4 serves a filesystem that may be mounted as ext2, as it does in most kernels
/// (`CONFIG_EXT4_USE_FOR_EXT2`). It writes every change of an inode to its table's page at once
/// (`ext4_mark_inode_dirty`); the older driver does so only when it writes to the disk (`ext2_write_inode`).
pub(super) fn is_served_by_ext4(mount: &Mount) -> bool {
    mount.fstype != "ext2" || attributes(mount.dev).is_some_and(|path| path.exists())
}

/// Where ext4 says more of a mounted filesystem.
fn attributes(dev: Dev) -> Option<PathBuf> {
    Some(Path::new("/sys/fs/ext4").join(device::name(dev)?))
}

/// One of the numbers there.
pub(super) fn attribute(dev: Dev, name: &str) -> Option<u64> {
    std::fs::read_to_string(attributes(dev)?.join(name)).ok()?.trim().parse().ok()
}

/// Opens the mount's block device for reading. No other device is even opened: that can have effects,
/// such as rewinding a tape.
pub(super) fn open(mount: &Mount) -> Result<Device, Errno> {
    let node = device::node(mount)?;
    let link = format!("/proc/self/fd/{}", node.as_raw_fd());
    let open = |flags| fcntl::open(link.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC | flags, Mode::empty());
    // Only the node's owner may leave its access time alone (open(2), `O_NOATIME`).
    let device = open(OFlag::O_NOATIME).or_else(|_| open(OFlag::empty()))?;
    // All that will be needed is announced: what the kernel would guess beyond that is read in vain.
    let _ = posix_fadvise(&device, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM);
    Ok(Device { file: device.into(), is_waited_for: AtomicBool::new(false) })
}

/// A mount's block device.
pub(super) struct Device {
    file: File,
    /// Whether the disk had to be waited for. Until then all is taken to be in memory: then to announce what
    /// will be read takes the kernel a twentieth of the time of a run, and helps nobody.
    is_waited_for: AtomicBool,
}

/// Copying what is read at once takes a tenth of it, a fast disk twice as long.
const WAIT: Duration = Duration::from_micros(60);

/// A device, and who sees that it answers.
pub(super) struct Watched<'a> {
    device: Device,
    monitor: &'a Monitor,
}

impl ReadAt for Watched<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let read = self.device.read_at(offset, buffer);
        self.monitor.beat();
        read
    }

    fn pause(&self) -> Duration {
        self.device.pause()
    }

    fn announce(&self, offset: u64, length: u64) {
        self.device.announce(offset, length);
    }
}

impl Device {
    /// The same, and `monitor` sees that it answers.
    pub(super) fn watched_by(self, monitor: &Monitor) -> Watched<'_> {
        Watched { device: self, monitor }
    }
}

impl ReadAt for Device {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let begun = Instant::now();
        let read = self.file.read_exact_at(buffer, offset).map_err(|error| match error.raw_os_error() {
            Some(code) => Error::Read(Errno::from_raw(code)),
            // The device ends before the filesystem does.
            None => Error::Corrupt,
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
