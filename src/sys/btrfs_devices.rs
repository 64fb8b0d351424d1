// SPDX-License-Identifier: MIT OR Apache-2.0

//! `BTRFS_IOC_FS_INFO` and `BTRFS_IOC_DEV_INFO`: what a btrfs filesystem is called and the devices that it
//! is on, `btrfs-ioctl(2)`.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

const BTRFS_IOC_DEV_INFO: libc::Ioctl = libc::_IOWR::<DevInfo>(0x94, 30);
const BTRFS_IOC_FS_INFO: libc::Ioctl = libc::_IOR::<FsInfo>(0x94, 31);
/// Numbers are never given out again; no filesystem in practice comes near this many.
const MOST: u64 = 1024;

/// Mirrors `struct btrfs_ioctl_fs_info_args` (include/uapi/linux/btrfs.h).
#[repr(C)]
struct FsInfo {
    max_id: u64,
    _num_devices: u64,
    fsid: [u8; 16],
    _nodesize_to_end: [u64; 124],
}

/// Mirrors `struct btrfs_ioctl_dev_info_args`.
#[repr(C)]
struct DevInfo {
    devid: u64,
    _uuid: [u8; 16],
    bytes_used: u64,
    total_bytes: u64,
    _fsid_to_unused: [u64; 379],
    path: [u8; 1024],
}

const _: () = assert!(size_of::<FsInfo>() == 1024 && size_of::<DevInfo>() == 4096);

/// What is told of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// By which sysfs knows it while it is mounted.
    pub uuid: [u8; 16],
    /// The devices that it is on.
    pub devices: Vec<Device>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number within the filesystem.
    pub number: u64,
    /// How many bytes of it the filesystem may use.
    pub size: u64,
    /// How many of them are allocated, in chunks.
    pub allocated: u64,
    /// The name under which it was found.
    pub path: Vec<u8>,
}

/// Asks the filesystem that `fd` is on. Needs no privilege.
pub fn info(fd: BorrowedFd<'_>) -> Result<Info, Errno> {
    let mut info = FsInfo { max_id: 0, _num_devices: 0, fsid: [0; 16], _nodesize_to_end: [0; 124] };
    // SAFETY: the request says how large the struct is, which the kernel fills.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), BTRFS_IOC_FS_INFO, &raw mut info) };
    Errno::result(result)?;
    if info.max_id > MOST {
        return Err(Errno::E2BIG);
    }
    let known = (1..=info.max_id).map(|number| device(fd, number));
    // A device that was taken away again.
    let present = known.filter(|device| device.as_ref().err() != Some(&Errno::ENODEV));
    Ok(Info { uuid: info.fsid, devices: present.collect::<Result<_, Errno>>()? })
}

fn device(fd: BorrowedFd<'_>, number: u64) -> Result<Device, Errno> {
    let mut info = Box::new(DevInfo {
        devid: number,
        _uuid: [0; 16],
        bytes_used: 0,
        total_bytes: 0,
        _fsid_to_unused: [0; 379],
        path: [0; 1024],
    });
    let address: *mut DevInfo = &raw mut *info;
    // SAFETY: as above; the number in it says which device.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), BTRFS_IOC_DEV_INFO, address) };
    Errno::result(result)?;
    let path = CStr::from_bytes_until_nul(&info.path).map(|path| path.to_bytes().to_vec());
    Ok(Device { number, size: info.total_bytes, allocated: info.bytes_used, path: path.unwrap_or_default() })
}
