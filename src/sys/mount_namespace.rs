// SPDX-License-Identifier: MIT OR Apache-2.0

//! All mount namespaces, also those that no process is in, and what is mounted in each: the ioctls
//! of nsfs (`ioctl_nsfs(2)`, Linux 6.12), `listmount(2)` and `statmount(2)`. Nothing is entered, and
//! no mounted filesystem is asked anything.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};

use super::Dev;

/// include/uapi/linux/nsfs.h.
const NSIO: u32 = 0xb7;
const NS_MNT_GET_INFO: libc::Ioctl = libc::_IOR::<Info>(NSIO, 10);
const NS_MNT_GET_NEXT: libc::Ioctl = libc::_IOR::<Info>(NSIO, 11);
const NS_MNT_GET_PREV: libc::Ioctl = libc::_IOR::<Info>(NSIO, 12);

/// `LSMT_ROOT` of include/uapi/linux/mount.h: all that is mounted in a namespace.
const LSMT_ROOT: u64 = u64::MAX;
/// The same numbers on all architectures: they are younger than the common table.
const SYS_STATMOUNT: libc::c_long = 457;
const SYS_LISTMOUNT: libc::c_long = 458;

/// `STATMOUNT_SB_BASIC`: that is told at once.
const SUPERBLOCK: u64 = 0x1;
/// `STATMOUNT_MNT_BASIC`, `_MNT_ROOT`, `_MNT_POINT` and, since Linux 6.13, `_SB_SOURCE`: names take
/// longer.
const NAMES: u64 = 0x2 | 0x8 | 0x10 | SB_SOURCE;
const SB_SOURCE: u64 = 0x200;

/// `struct statmount`: strings stand behind it, each field for one holding its offset there.
mod field {
    pub(super) const MASK: usize = 8;
    pub(super) const MAJOR: usize = 16;
    pub(super) const MINOR: usize = 20;
    pub(super) const MAGIC: usize = 24;
    pub(super) const ID_IN_MOUNTINFO: usize = 56;
    pub(super) const ROOT: usize = 104;
    pub(super) const POINT: usize = 108;
    pub(super) const SOURCE: usize = 124;
    pub(super) const STRINGS: usize = 512;
}

/// Room for three long paths.
const BUFFER: usize = 64 << 10;
/// How many mounts are listed at once.
const AT_ONCE: usize = 512;

/// Mirrors `struct mnt_ns_info`.
#[repr(C)]
#[derive(Default)]
struct Info {
    size: u32,
    mounts: u32,
    id: u64,
}

/// Mirrors `struct mnt_id_req` (`MNT_ID_REQ_SIZE_VER1`).
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    parameter: u64,
    namespace: u64,
}

/// A mount namespace.
#[derive(Debug)]
pub struct Namespace {
    /// Leads into it: setns(2).
    pub fd: OwnedFd,
    /// Its inode number on nsfs, as in `mnt:[4026531832]`.
    pub inode: u64,
    /// Unique, never used again.
    id: u64,
}

/// One mount, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mounted<'a> {
    /// As in mountinfo.
    pub id: u64,
    /// The superblock's device.
    pub dev: Dev,
    /// The superblock's magic number.
    pub magic: u64,
    /// The part of the filesystem that is mounted; ends in `//deleted` where its name is gone.
    pub root: &'a [u8],
    /// Where, from the namespace's root.
    pub point: &'a [u8],
    /// What is mounted; empty before Linux 6.13.
    pub source: &'a [u8],
}

/// Calls `each` for all mount namespaces that this process has `CAP_SYS_ADMIN` over, its own first.
/// `ENOTTY` before Linux 6.12.
pub fn all(mut each: impl FnMut(Namespace)) -> Result<(), Errno> {
    let own = open("/proc/self/ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let (_, id) = ioctl(own.as_fd(), NS_MNT_GET_INFO)?;
    let beside = [NS_MNT_GET_NEXT, NS_MNT_GET_PREV].map(|direction| beside(own.as_fd(), direction));
    each(Namespace { inode: fstat(&own)?.st_ino, fd: own, id });
    for (namespace, direction) in beside.into_iter().zip([NS_MNT_GET_NEXT, NS_MNT_GET_PREV]) {
        let mut next = namespace?;
        while let Some(namespace) = next {
            next = self::beside(namespace.fd.as_fd(), direction)?;
            each(namespace);
        }
    }
    Ok(())
}

/// The namespace made next after (or before) this one, if there is one.
fn beside(namespace: BorrowedFd<'_>, direction: libc::Ioctl) -> Result<Option<Namespace>, Errno> {
    let (fd, id) = match ioctl(namespace, direction) {
        Err(Errno::ENOENT) => return Ok(None),
        result => result?,
    };
    // SAFETY: the kernel has just given us this descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(Some(Namespace { inode: fstat(&fd)?.st_ino, fd, id }))
}

fn ioctl(namespace: BorrowedFd<'_>, request: libc::Ioctl) -> Result<(RawFd, u64), Errno> {
    let mut info = Info { size: u32::try_from(size_of::<Info>()).unwrap_or(0), ..Info::default() };
    // SAFETY: each of the three fills one struct mnt_ns_info, whose size is in it.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), request, &raw mut info) };
    Errno::result(result).map(|fd| (fd, info.id))
}

/// Calls `each` for every mount in `namespace` whose superblock, by its device and its magic number, is
/// `wanted`. One that is unmounted meanwhile is left out.
pub fn mounts(
    namespace: &Namespace,
    wanted: impl Fn(Dev, u64) -> bool,
    mut each: impl FnMut(Mounted<'_>),
) -> Result<(), Errno> {
    let mut buffer = vec![0; BUFFER];
    let mut last = 0;
    loop {
        let mut ids = [0_u64; AT_ONCE];
        let request = self::request(LSMT_ROOT, last, namespace);
        // SAFETY: the kernel reads one request, whose size is in it, and writes at most AT_ONCE numbers.
        let count =
            unsafe { libc::syscall(SYS_LISTMOUNT, &raw const request, ids.as_mut_ptr(), ids.len(), 0) };
        let count = usize::try_from(Errno::result(count)?).unwrap_or(0);
        for &id in ids.get(..count).unwrap_or_default() {
            if stat(id, SUPERBLOCK, namespace, &mut buffer).is_ok()
                && superblock(&buffer).is_some_and(|(dev, magic)| wanted(dev, magic))
                && stat(id, SUPERBLOCK | NAMES, namespace, &mut buffer).is_ok()
                && let Some(mounted) = parse(&buffer)
            {
                each(mounted);
            }
            last = id;
        }
        if count < AT_ONCE {
            return Ok(());
        }
    }
}

fn stat(mount: u64, asked: u64, namespace: &Namespace, buffer: &mut [u8]) -> Result<(), Errno> {
    let request = request(mount, asked, namespace);
    // SAFETY: the kernel reads one request, whose size is in it, and writes at most `buffer.len()` bytes.
    let result =
        unsafe { libc::syscall(SYS_STATMOUNT, &raw const request, buffer.as_mut_ptr(), buffer.len(), 0) };
    Errno::result(result).map(drop)
}

fn request(mount: u64, parameter: u64, namespace: &Namespace) -> Request {
    let size = u32::try_from(size_of::<Request>()).unwrap_or(0);
    Request { size, spare: 0, mount, parameter, namespace: namespace.id }
}

fn superblock(buffer: &[u8]) -> Option<(Dev, u64)> {
    let dev = Dev { major: word(buffer, field::MAJOR)?, minor: word(buffer, field::MINOR)? };
    Some((dev, long(buffer, field::MAGIC)?))
}

fn word(buffer: &[u8], at: usize) -> Option<u32> {
    buffer.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn long(buffer: &[u8], at: usize) -> Option<u64> {
    buffer.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

/// What statmount has filled in; `None` where its parts do not fit together.
fn parse(buffer: &[u8]) -> Option<Mounted<'_>> {
    let text = |at: usize| {
        let start = field::STRINGS.checked_add(usize::try_from(word(buffer, at)?).ok()?)?;
        Some(CStr::from_bytes_until_nul(buffer.get(start..)?).ok()?.to_bytes())
    };
    let (dev, magic) = superblock(buffer)?;
    let with_source = long(buffer, field::MASK)? & SB_SOURCE != 0;
    Some(Mounted {
        id: word(buffer, field::ID_IN_MOUNTINFO)?.into(),
        dev,
        magic,
        root: text(field::ROOT)?,
        point: text(field::POINT)?,
        source: if with_source { text(field::SOURCE)? } else { b"" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            parse(&bytes);
        }
    }
}
