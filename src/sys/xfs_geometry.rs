//! `XFS_IOC_FSGEOMETRY`: how an XFS filesystem was made, `ioctl_xfs_fsgeometry(2)`, Linux 5.2.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

const XFS_IOC_FSGEOMETRY: libc::Ioctl = libc::_IOR::<Geometry>('X' as u32, 126);

/// Mirrors `struct xfs_fsop_geom` (`fs/xfs/libxfs/xfs_fs.h`); what is not needed has no name.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Geometry {
    blocksize: u32,
    _realtime_extent_to_imaxpct: [u32; 7],
    datablocks: u64,
    _realtime_blocks_to_end: [u64; 27],
}

const _: () = assert!(size_of::<Geometry>() == 256);

/// How many bytes of its data device the filesystem that `fd` is on takes up. Needs no privilege.
pub fn size(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut geometry = Geometry::default();
    // SAFETY: the request says how large the struct is, which the kernel fills.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), XFS_IOC_FSGEOMETRY, &raw mut geometry) };
    Errno::result(result)?;
    Ok(geometry.datablocks.saturating_mul(geometry.blocksize.into()))
}
