// SPDX-License-Identifier: MIT OR Apache-2.0

//! `XFS_IOC_BULKSTAT`: all inodes of an XFS filesystem, allocation group by allocation group, in the
//! order of their numbers: `ioctl_xfs_bulkstat(2)`, Linux 5.4.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// How many inodes the kernel is asked for at once: 12 KiB, which fit on any stack. The kernel takes
/// them chunk by chunk, of 64 inodes each.
const BATCH: usize = 64;
/// Only inodes of the allocation group in `agno`.
const XFS_BULK_IREQ_AGNO: u32 = 1;
const XFS_IOC_BULKSTAT: libc::Ioctl = libc::_IOR::<Header>('X' as u32, 127);

/// Mirrors `struct xfs_bulk_ireq` (`fs/xfs/libxfs/xfs_fs.h`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Header {
    ino: u64,
    flags: u32,
    icount: u32,
    ocount: u32,
    agno: u32,
    reserved: [u64; 5],
}

/// Mirrors `struct xfs_bulkstat`; what is not needed has no name.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Raw {
    ino: u64,
    _size_to_birth: [u64; 7],
    gen_: u32,
    _owner_to_extent_size: [u32; 11],
    nlink: u32,
    _extents_to_end: [u32; 19],
}

const _: () = assert!(size_of::<Header>() == 64 && size_of::<Raw>() == 192);

#[repr(C)]
struct Request {
    header: Header,
    inodes: [Raw; BATCH],
}

/// What is needed of one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub number: u64,
    /// Tells it from others that have had or will have the same number.
    pub generation: u32,
    /// How many names it has.
    pub links: u32,
}

/// So many numbers are tried in one group to get past damaged inodes: fifteen chunks.
const MOST_TRIES: usize = 1000;

/// Calls `each` for every inode of allocation group `group` of the filesystem that `fd` is on, and
/// `damaged` for those that the kernel cannot read. Returns whether there is such a group; the first one's
/// number is 0. Needs `CAP_SYS_ADMIN`.
pub fn inodes(
    fd: BorrowedFd<'_>,
    group: u32,
    mut each: impl FnMut(Inode),
    mut damaged: impl FnMut(u64, Errno),
) -> Result<bool, Errno> {
    let mut request = Request { header: Header::default(), inodes: [Raw::default(); BATCH] };
    request.header.flags = XFS_BULK_IREQ_AGNO;
    request.header.agno = group;
    let (mut tries, mut failed) = (0, None);
    loop {
        request.header.icount = u32::try_from(BATCH).unwrap_or(u32::MAX);
        let at = request.header.ino;
        let address = &raw mut request;
        // SAFETY: the header says for how many inodes there is room behind it.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), XFS_IOC_BULKSTAT, address) };
        match Errno::result(result) {
            // Beyond the last group (fs/xfs/xfs_ioctl.c, `xfs_bulk_ireq_setup`). Every filesystem has a first.
            Err(Errno::EINVAL) if at == 0 && group > 0 => return Ok(false),
            // The next one in use cannot be read. Its number is not told (`xfs_ioc_bulkstat`), but is the last
            // from where that happens.
            Err(errno @ (Errno::EUCLEAN | Errno::EBADMSG | Errno::EIO)) if at > 0 && tries < MOST_TRIES => {
                tries += 1;
                failed = Some((at, errno));
                request.header.ino += 1;
                continue;
            }
            result => result?,
        };
        if let Some((number, errno)) = failed.take() {
            damaged(number, errno);
        }
        let count = usize::try_from(request.header.ocount).unwrap_or(BATCH).min(BATCH);
        for raw in &request.inodes[..count] {
            each(Inode { number: raw.ino, generation: raw.gen_, links: raw.nlink });
        }
        // The kernel leaves in `ino` where to go on.
        if count == 0 || request.header.ino <= at {
            return Ok(true);
        }
    }
}
