// SPDX-License-Identifier: MIT OR Apache-2.0

//! `quotactl_fd(2)`, Linux 5.14: what users, groups and projects use and may use.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// include/uapi/linux/quota.h.
const Q_GETQUOTA: u32 = 0x80_0007;
const Q_GETNEXTQUOTA: u32 = 0x80_0009;
const SUBCMDSHIFT: u32 = 8;
/// Limits on space are counted in blocks of that many bytes: `QIF_DQBLKSIZE`.
const LIMIT_UNIT: u64 = 1024;

/// Whose use is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of the files of a user.
    User = 0,
    /// Of those of a group.
    Group = 1,
    /// Of those in a project.
    Project = 2,
}

/// What is used of one thing, and how much may be. A limit of 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Used now.
    pub used: u64,
    /// May be exceeded until the time of grace has passed.
    pub soft: u64,
    /// May never be exceeded.
    pub hard: u64,
    /// When the time of grace ends, seconds since the epoch; 0 while within the soft limit.
    pub grace_ends: u64,
}

/// One quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The number of the user, group or project.
    pub id: u32,
    /// In bytes.
    pub space: Amount,
    /// In inodes.
    pub inodes: Amount,
}

/// Mirrors `struct if_nextdqblk`, whose beginning is `struct if_dqblk`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Raw {
    space_hard: u64,
    space_soft: u64,
    space: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes: u64,
    space_grace_ends: u64,
    inodes_grace_ends: u64,
    valid: u32,
    id: u32,
}

const _: () = assert!(size_of::<Raw>() == 72);

/// The quota of the lowest number from `id` on; `ENOENT` when there is none left. Needs
/// `CAP_SYS_ADMIN`. Any descriptor of the filesystem will do, also one opened with `O_PATH`.
pub fn next(fd: BorrowedFd<'_>, kind: Kind, id: u32) -> Result<Quota, Errno> {
    let raw = call(fd, Q_GETNEXTQUOTA, kind, id)?;
    Ok(quota(&raw, raw.id))
}

/// The quota of that number. Needs no privilege for one's own.
pub fn of(fd: BorrowedFd<'_>, kind: Kind, id: u32) -> Result<Quota, Errno> {
    call(fd, Q_GETQUOTA, kind, id).map(|raw| quota(&raw, id))
}

fn call(fd: BorrowedFd<'_>, command: u32, kind: Kind, id: u32) -> Result<Raw, Errno> {
    let mut raw = Raw::default();
    let command = command << SUBCMDSHIFT | kind as u32;
    // SAFETY: `raw` has room for the larger of the two structs that the commands fill.
    let result = unsafe { libc::syscall(libc::SYS_quotactl_fd, fd.as_raw_fd(), command, id, &raw mut raw) };
    Errno::result(result)?;
    Ok(raw)
}

fn quota(raw: &Raw, id: u32) -> Quota {
    let bytes = |blocks: u64| blocks.saturating_mul(LIMIT_UNIT);
    let space = Amount {
        used: raw.space,
        soft: bytes(raw.space_soft),
        hard: bytes(raw.space_hard),
        grace_ends: raw.space_grace_ends,
    };
    let inodes = Amount {
        used: raw.inodes,
        soft: raw.inodes_soft,
        hard: raw.inodes_hard,
        grace_ends: raw.inodes_grace_ends,
    };
    Quota { id, space, inodes }
}
