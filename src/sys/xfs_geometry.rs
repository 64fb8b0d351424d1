// SPDX-License-Identifier: MIT OR Apache-2.0

//! `XFS_IOC_FSGEOMETRY`: how an XFS filesystem was made, `ioctl_xfs_fsgeometry(2)`, Linux 5.2.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

const XFS_IOC_FSGEOMETRY: libc::Ioctl = libc::_IOR::<Geometry>('X' as u32, 126);

/// Mirrors `struct xfs_fsop_geom` (`fs/xfs/libxfs/xfs_fs.h`); what is not needed has no name.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Geometry {
    blocksize: u32,
    _realtime_extent_to_agcount: [u32; 3],
    logblocks: u32,
    _sectsize_to_imaxpct: [u32; 3],
    datablocks: u64,
    _realtime_blocks_and_extents: [u64; 2],
    logstart: u64,
    _uuid_to_end: [u64; 24],
}

const _: () = assert!(size_of::<Geometry>() == 256);

/// What an XFS filesystem takes up of its data device, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// All of it.
    pub data: u64,
    /// The log in it; 0 where that is on a device of its own.
    pub log: u64,
}

/// How large the filesystem that `fd` is on was made. Needs no privilege.
pub fn size(fd: BorrowedFd<'_>) -> Result<Size, Errno> {
    let mut geometry = Geometry::default();
    // SAFETY: the request says how large the struct is, which the kernel fills.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), XFS_IOC_FSGEOMETRY, &raw mut geometry) };
    Errno::result(result)?;
    let bytes = |blocks: u64| blocks.saturating_mul(geometry.blocksize.into());
    let log = if geometry.logstart == 0 { 0 } else { geometry.logblocks };
    Ok(Size { data: bytes(geometry.datablocks), log: bytes(log.into()) })
}
