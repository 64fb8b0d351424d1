// SPDX-License-Identifier: MIT OR Apache-2.0

//! statx(2), as the walk and the holder scan use it: never synchronising with a
//! server, never following a link's last component, never triggering an automount.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;

use super::Dev;

/// `st_blocks` counts units of 512 bytes whatever the filesystem's block size: stat(2).
pub const BLOCK_UNIT: u64 = 512;

/// No inode has so many bytes allocated; a server may claim any number of them. The same as `Bytes::MOST`.
const MOST_ALLOCATED: u64 = 1_000_000_000_000_000_000;

/// What statx(2) says of one inode, as far as the ledger needs it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stat {
    /// The device the inode reports (on btrfs that of its subvolume).
    pub dev: Dev,
    /// The inode number.
    pub inode: u64,
    /// How many names the inode has.
    pub links: u32,
    /// File type and permissions, as `st_mode`.
    pub mode: u32,
    /// Whose it is.
    pub uid: u32,
    /// Allocated bytes: `st_blocks * 512`, but no more than any filesystem holds.
    pub allocated: u64,
    /// Apparent size in bytes.
    pub size: u64,
    /// Last modification, seconds since the epoch.
    pub modified: i64,
    /// When it was made; zero where the filesystem does not record that.
    pub created: Moment,
    /// When anything about it last changed.
    pub changed: Moment,
    /// On btrfs the number of its subvolume; `None` elsewhere, and before Linux 6.10.
    pub subvolume: Option<u64>,
    /// The mount it was reached through, as in mountinfo; `None` before Linux 5.8.
    pub mount: Option<u64>,
}

/// A time as the filesystem stores it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Since the epoch.
    pub seconds: i64,
    /// And so much more.
    pub nanoseconds: u32,
}

impl From<libc::statx_timestamp> for Moment {
    fn from(time: libc::statx_timestamp) -> Self {
        Self { seconds: time.tv_sec, nanoseconds: time.tv_nsec }
    }
}

impl Stat {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// Whether it is a file of a deleted btrfs subvolume, which is kept until the last one is let go. The
    /// subvolume has given back its device number then (fs/btrfs/disk-io.c, `btrfs_free_fs_root`), and
    /// the kernel gives 0 to nothing else (fs/super.c, `get_anon_bdev`).
    pub fn is_in_deleted_subvolume(&self) -> bool {
        self.dev == Dev::default()
    }

    /// Whether two looks, one of them through an overlay, which gives it a number of its own, may
    /// have been at the same inode.
    pub fn looks_like(&self, other: &Self) -> bool {
        let looks = |stat: &Self| {
            let times = (stat.created, stat.changed, stat.modified);
            (stat.mode, stat.links, stat.size, stat.allocated, times)
        };
        looks(self) == looks(other)
    }

    /// Whether it is an ordinary file.
    pub fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    /// What tells inodes apart.
    pub fn identity(&self) -> (Dev, u64) {
        (self.dev, self.inode)
    }
}

/// The block device whose node `path` is.
pub fn device_node(path: &Path) -> Option<Dev> {
    let stat = nix::sys::stat::stat(path).ok()?;
    let part = |number: u64| u32::try_from(number).ok();
    let (major, minor) = (nix::sys::stat::major(stat.st_rdev), nix::sys::stat::minor(stat.st_rdev));
    (stat.st_mode & libc::S_IFMT == libc::S_IFBLK).then_some(Dev { major: part(major)?, minor: part(minor)? })
}

/// Whether the last component of the name is followed when it is a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Look at the link itself.
    Stay,
    /// Follow it: how the links of /proc lead to what a process holds.
    Follow,
}

/// Stats `name` below `dir`.
pub fn statx_at(dir: BorrowedFd<'_>, name: &CStr, links: Links) -> Result<Stat, Errno> {
    let flags = match links {
        Links::Stay => libc::AT_SYMLINK_NOFOLLOW,
        Links::Follow => 0,
    };
    statx(dir, name, flags)
}

/// Stats what the descriptor itself refers to.
pub fn statx_fd(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    statx(fd, c"", libc::AT_EMPTY_PATH)
}

#[inline]
fn statx(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> Result<Stat, Errno> {
    let flags = flags | libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT;
    let mask = libc::STATX_TYPE
        | libc::STATX_INO
        | libc::STATX_MODE
        | libc::STATX_UID
        | libc::STATX_NLINK
        | libc::STATX_BLOCKS
        | libc::STATX_SIZE
        | libc::STATX_MTIME
        | libc::STATX_CTIME
        | libc::STATX_BTIME
        | libc::STATX_SUBVOL
        | libc::STATX_MNT_ID;
    let mut buffer = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: `name` is NUL-terminated and `buffer` has room for one struct statx. The raw
    // call, because older musl has no wrapper.
    let result = unsafe {
        libc::syscall(libc::SYS_statx, dir.as_raw_fd(), name.as_ptr(), flags, mask, buffer.as_mut_ptr())
    };
    Errno::result(result)?;
    // SAFETY: the call succeeded, so the kernel has filled the whole struct.
    let raw = unsafe { buffer.assume_init_ref() };
    Ok(Stat {
        dev: Dev { major: raw.stx_dev_major, minor: raw.stx_dev_minor },
        inode: raw.stx_ino,
        links: raw.stx_nlink,
        mode: u32::from(raw.stx_mode),
        uid: raw.stx_uid,
        allocated: raw.stx_blocks.saturating_mul(BLOCK_UNIT).min(MOST_ALLOCATED),
        size: raw.stx_size,
        modified: raw.stx_mtime.tv_sec,
        created: raw.stx_btime.into(),
        changed: raw.stx_ctime.into(),
        subvolume: (raw.stx_mask & libc::STATX_SUBVOL != 0).then_some(raw.stx_subvol),
        mount: (raw.stx_mask & libc::STATX_MNT_ID != 0).then_some(raw.stx_mnt_id),
    })
}
