// SPDX-License-Identifier: MIT OR Apache-2.0

//! btrfs: on several devices, with a tree of its own for each subvolume and snapshot.

mod chunks;
mod qgroups;
mod subvolumes;

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::driver::{Driver, Geometry, MemberDevice, Mounted};
use super::unlinked::Handles;
use super::{Unable, limits};
use crate::model::bytes::Bytes;
use crate::model::limits::Limits;
use crate::model::traits::{Command, ReservedFor, Storage, Subvolumes, Tools, Traits};
use crate::mounts::Mount;
use crate::sys::btrfs_devices;
use crate::sys::stat::device_node;

/// The driver.
pub(super) struct Btrfs;

/// At the beginning of each device, for boot loaders: `BTRFS_DEVICE_RANGE_RESERVED` (fs/btrfs/volumes.h).
const NEVER_ALLOCATED: Bytes = Bytes(1 << 20);

impl Driver for Btrfs {
    fn serves(&self, fstype: &str) -> bool {
        fstype == "btrfs"
    }

    fn traits(&self, _fstype: &str) -> Traits {
        Traits {
            storage: Storage::Devices,
            subvolumes: Some(Subvolumes { root_inode: Some(subvolumes::FIRST_FREE_OBJECTID) }),
            shared_extents: true,
            one_superblock_per_device: false,
            reserved_for: ReservedFor::Filesystem,
            unchecked_counters: false,
            tools: Tools {
                check: Some(Command("btrfs check --readonly {device}")),
                // btrfs-check(8) warns of `--repair`: what this tells decides what to do.
                repair: Some(Command("btrfs check --readonly {device}")),
                grow: Some(Command("btrfs filesystem resize {number}:max {mountpoint}")),
                ..Tools::default()
            },
        }
    }

    fn handles(&self, on: Mounted<'_>) -> Result<Option<Handles>, Unable> {
        let root = on.reopen().map_err(Unable::Refused)?;
        subvolumes::handles(root.as_fd()).map(Some).map_err(Unable::Refused)
    }

    fn limits(&self, on: Mounted<'_>, timeout: Duration) -> Limits {
        let root = on.reopen();
        let Some(info) = root.as_ref().ok().and_then(|root| btrfs_devices::info(root.as_fd()).ok()) else {
            return limits::read(on, None, timeout);
        };
        let sysfs = Path::new("/sys/fs/btrfs").join(uuid_text(info.uuid));
        let unallocated: Vec<Bytes> = info.devices.iter().map(unallocated).collect();
        let own = mounted_subvolume(on.mount);
        Limits {
            quotas: qgroups::short(&sysfs).unwrap_or_default(),
            chunks: chunks::read(&sysfs, &unallocated),
            snapshots: root.ok().and_then(|root| subvolumes::snapshots(root.as_fd(), own).ok()),
            ..limits::read(on, Some(&geometry(info)), timeout)
        }
    }
}

/// The number of the subvolume that is mounted.
fn mounted_subvolume(mount: &Mount) -> Option<u64> {
    std::str::from_utf8(&mount.option("subvolid")?).ok()?.parse().ok()
}

/// How much of each of its devices the filesystem takes up.
fn geometry(info: btrfs_devices::Info) -> Geometry {
    let member = |device: btrfs_devices::Device| {
        let node = PathBuf::from(OsString::from_vec(device.path));
        MemberDevice { dev: device_node(&node), number: device.number, size: Bytes(device.size) }
    };
    Geometry { devices: info.devices.into_iter().map(member).collect(), uncounted: None }
}

/// What chunks can still be made of.
fn unallocated(device: &btrfs_devices::Device) -> Bytes {
    Bytes(device.size).saturating_sub(Bytes(device.allocated)).saturating_sub(NEVER_ALLOCATED)
}

/// As `%pU` prints it, and sysfs names the filesystem's directory.
fn uuid_text(uuid: [u8; 16]) -> String {
    let mut text = format!("{:032x}", u128::from_be_bytes(uuid));
    // From the end, so that a dash does not move the next place.
    for place in [20, 16, 12, 8] {
        text.insert(place, '-');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uuid_is_written_as_sysfs_writes_it() {
        let uuid = std::array::from_fn(|index| u8::try_from(index * 16 + 1).unwrap());
        assert_eq!(super::uuid_text(uuid), "01112131-4151-6171-8191-a1b1c1d1e1f1");
    }
}
