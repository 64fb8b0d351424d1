//! What a filesystem itself records: the view from below. Its own list of the inodes without a name
//! is complete whoever holds them, and needs no holder to look at them; on ext2, ext3 and ext4 all that
//! the walk finds is known from below, too, and what the filesystem keeps for itself. Also how it is made.
//!
//! Nothing is changed by looking. Every call here may wait for a disk that does not answer, or for
//! a large file that is just being freed: the caller sets the deadline.

mod btrfs;
pub mod errors;
mod ext4;
pub mod limits;
#[cfg(test)]
mod tests;
mod xfs;

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::Mode;

#[cfg(fuzzing)]
pub use self::ext4::look_everywhere;
use crate::model::bytes::Bytes;
use crate::model::monitor::Monitor;
use crate::model::skips::{Kind, Skip};
use crate::model::usage::{Census, MountPoint, Options, Tally};
use crate::mounts::Mount;
use crate::sys::Dev;
use crate::sys::handle::Handle;
use crate::sys::scout;
use crate::sys::stat::{Stat, is_stand_in, statx_fd};

/// An inode without a name, as the filesystem itself lists it.
#[derive(Clone, Debug)]
pub struct Unlinked {
    /// What the kernel says of it; the bytes include those that are not written out yet.
    pub stat: Stat,
    /// Its last name; `None` if it never had one, or where that is not known: nobody has it open, or
    /// the mount does not show its directory.
    pub path: Option<PathBuf>,
}

/// What the filesystem keeps of inodes without a name.
#[derive(Clone, Debug)]
pub enum Listing {
    /// All of them, each once, but for damaged ones.
    Kept {
        /// Those that the kernel knows.
        unlinked: Vec<Unlinked>,
        /// Those that are damaged, of which some may have a name.
        damaged: Vec<Damaged>,
    },
    /// No such list is kept here: tmpfs, unknown filesystems.
    NotKept,
}

/// What a filesystem needs besides what its files take up.
#[derive(Clone, Debug, Default)]
pub struct Internal {
    /// What it keeps for itself.
    pub metadata: Vec<Term>,
    /// What files report and share with other files, or do not take up.
    pub shared: Vec<Term>,
    /// What has been promised to data that is still in memory only. Files report it; what is read
    /// from below does not have it.
    pub delayed: Bytes,
    /// Inodes that are in use and have no name, with what they take up.
    pub nameless: Vec<(u64, Bytes)>,
    /// All those that have one, by their own count of links.
    pub named: Tally,
    /// Why the kernel did not confine the threads that read this, where it did not.
    pub unconfined: Option<Errno>,
    /// Damaged inodes. They are in none of the above.
    pub damaged: Vec<Damaged>,
}

/// An inode on which the kernel answers that it is damaged, or would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its number.
    pub inode: u64,
    /// What the kernel answers.
    pub errno: Errno,
}

impl Damaged {
    /// As it is told: no name of it is known.
    pub fn skip(self, mountpoint: &Path) -> Skip {
        Skip::new(Kind::Inode, mountpoint, self.errno).of_inode(self.inode)
    }
}

/// A part of an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// What it is.
    pub name: &'static str,
    /// How much.
    pub bytes: Bytes,
}

/// Why a filesystem cannot be read from below.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unable {
    /// No way to do so is known.
    #[error("whyfull can read {0} only through names")]
    Filesystem(String),
    /// The rest of it would be read, too.
    #[error("only a part of it is mounted")]
    Part,
    /// What is beneath mount points is to be listed, and files are not told apart here.
    #[error("names under mount points are to be listed")]
    Listed,
    /// Its device cannot be opened.
    #[error("its device cannot be opened: {}", .0.desc())]
    Device(Errno),
    /// It is made in a way that is not known here.
    #[error("it has features that whyfull does not know")]
    Features,
    /// Where a mount point lies cannot be told from below.
    #[error("a mount point lies in an encrypted or case-insensitive directory")]
    MountPoint,
    /// It is damaged, or changes too fast.
    #[error("what was read makes no sense, so it may be damaged (e2fsck -n checks it)")]
    Damaged,
    /// Its device cannot be read.
    #[error("its device cannot be read: {}", .0.desc())]
    Read(Errno),
}

impl From<Errno> for Unable {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::EUCLEAN => Self::Damaged,
            Errno::EOPNOTSUPP => Self::Features,
            Errno::ENOKEY => Self::MountPoint,
            errno => Self::Read(errno),
        }
    }
}

/// Everything below the root of `mount`, read from below: the same that a walk through all names
/// would find, without what lies on other filesystems.
pub fn census(
    mount: &Mount,
    mount_points: &[MountPoint<'_>],
    options: Options<'_>,
    monitor: &Monitor,
) -> Result<(Census, Internal), Unable> {
    if !is_ext(mount) {
        return Err(Unable::Filesystem(mount.fstype.clone()));
    }
    if mount.root != Path::new("/") {
        return Err(Unable::Part);
    }
    if mount_points.iter().any(|point| point.listed) {
        return Err(Unable::Listed);
    }
    ext4::census(mount, mount_points, options, monitor)
}

/// What the filesystem of `mount` needs besides what its files take up.
pub fn internal(mount: &Mount, options: Options<'_>, monitor: &Monitor) -> Result<Internal, Unable> {
    if is_ext(mount) {
        ext4::internal(mount, options, monitor)
    } else {
        Err(Unable::Filesystem(mount.fstype.clone()))
    }
}

/// Asks the filesystem to write out what is in memory only, if that would be missed from below, and
/// waits for that, but no longer than `timeout`.
pub fn settle(mount: &Mount, root: BorrowedFd<'_>, timeout: Duration) {
    if is_ext(mount) && ext4::lags(mount) {
        // What has not been written by then is known in all.
        let _ = reopen(root).and_then(|root| scout::syncs(root.as_fd(), timeout));
    }
}

/// The command that says how the filesystem of `mount` is damaged, and changes nothing. It takes one that is
/// not mounted to be reliable, or to run at all.
pub fn check(mount: &Mount) -> Option<Vec<String>> {
    let words: &[&str] = match mount.fstype.as_str() {
        _ if is_ext(mount) => &["e2fsck", "-n"],
        "xfs" => &["xfs_repair", "-n"],
        "btrfs" => &["btrfs", "check", "--readonly"],
        _ => return None,
    };
    let device = mount.source.to_str().filter(|source| source.starts_with('/'))?;
    Some(words.iter().copied().chain([device]).map(str::to_owned).collect())
}

fn is_ext(mount: &Mount) -> bool {
    matches!(mount.fstype.as_str(), "ext2" | "ext3" | "ext4")
}

/// The inodes without a name on the filesystem of `mount`, whose root `root` is (`O_PATH` is enough).
/// An error where there is no right to it, or where the device cannot be opened or is not what it
/// claims to be (`EUCLEAN`).
pub fn unlinked(mount: &Mount, root: BorrowedFd<'_>) -> Result<Listing, Errno> {
    let Some((Handles { all, damaged }, root)) = handles(mount, root)? else {
        return Ok(Listing::NotKept);
    };
    let looked = all.iter().map(|handle| look(handle, mount, root.as_fd()));
    let found = looked.filter_map(|looked| looked.map(|found| Some(found?.1)).transpose());
    Ok(Listing::Kept { unlinked: found.collect::<Result<_, Errno>>()?, damaged })
}

/// Those of them that have this number, opened with `O_PATH`: no right on the file, and it stays that
/// very inode. More than one only on btrfs, in different subvolumes; `None` where no list is kept.
pub fn open_unlinked(
    mount: &Mount,
    root: BorrowedFd<'_>,
    inode: u64,
) -> Result<Option<Vec<(OwnedFd, Unlinked)>>, Errno> {
    let Some((handles, root)) = handles(mount, root)? else { return Ok(None) };
    let looked = handles.all.iter().map(|handle| look(handle, mount, root.as_fd()));
    let wanted = |looked: &Result<Option<(OwnedFd, Unlinked)>, Errno>| match looked {
        Ok(found) => found.as_ref().is_some_and(|(_, found)| found.stat.inode == inode),
        Err(_) => true,
    };
    looked.filter(wanted).filter_map(Result::transpose).collect::<Result<_, Errno>>().map(Some)
}

/// What a filesystem lists.
struct Handles {
    all: Vec<Handle>,
    damaged: Vec<Damaged>,
}

/// Handles of what the filesystem lists, and its root, opened so that they can be used; `None` where it
/// keeps no list.
fn handles(mount: &Mount, root: BorrowedFd<'_>) -> Result<Option<(Handles, OwnedFd)>, Errno> {
    let (handles, root) = match mount.fstype.as_str() {
        _ if is_ext(mount) => (ext4::handles(mount)?, reopen(root)?),
        "xfs" => {
            let root = reopen(root)?;
            (Some(xfs::handles(root.as_fd())?), root)
        }
        "btrfs" => {
            let root = reopen(root)?;
            let all = btrfs::handles(root.as_fd())?;
            (Some(Handles { all, damaged: Vec::new() }), root)
        }
        _ => return Ok(None),
    };
    Ok(handles.map(|handles| (handles, root)))
}

/// How many subvolumes of the filesystem of `mount` are deleted and still take up space. Nobody records
/// how much, nor their files.
pub fn deleted_subvolumes(mount: &Mount, root: BorrowedFd<'_>) -> Result<usize, Errno> {
    match mount.fstype.as_str() {
        "btrfs" => btrfs::deleted_subvolumes(reopen(root)?.as_fd()),
        _ => Ok(0),
    }
}

/// How a filesystem is made, by its own records.
#[derive(Clone, Debug, Default)]
pub struct Geometry {
    /// The devices that it is on.
    pub parts: Vec<Part>,
    /// How large a directory can become before its index is full, if it has one that can be.
    pub largest_directory: Option<Bytes>,
    /// What it takes up and `df` leaves out of its size; `None` where that is not known in full.
    pub uncounted: Option<Vec<Term>>,
    /// What it keeps from ordinary users, where it can.
    pub reserve: Option<Reserve>,
    /// What only btrfs has.
    pub btrfs: Option<Btrfs>,
}

/// What is not for everybody, as long as it is free. Both may be more than is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// For root, or whom the mount names.
    pub blocks: Bytes,
    /// For the filesystem itself.
    pub clusters: Bytes,
}

/// What btrfs tells of itself.
#[derive(Clone, Debug)]
pub struct Btrfs {
    /// Its UUID, as sysfs writes it.
    pub uuid: String,
    /// What is in no chunk yet, of each of its devices.
    pub unallocated: Vec<Bytes>,
    /// How many snapshots it has, besides the one that is mounted; only root can know.
    pub snapshots: Option<usize>,
}

/// A device, as the filesystem on it sees it.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Which; `None` where its node cannot be found.
    pub dev: Option<Dev>,
    /// Its number within the filesystem.
    pub number: u64,
    /// How much of it the filesystem takes up.
    pub size: Bytes,
}

/// How the filesystem of `mount` is made. An error as for `unlinked`; XFS and btrfs tell everybody.
pub fn geometry(mount: &Mount, root: BorrowedFd<'_>) -> Result<Geometry, Errno> {
    match mount.fstype.as_str() {
        _ if is_ext(mount) => ext4::geometry(mount),
        "xfs" => xfs::geometry(mount, reopen(root)?.as_fd()),
        "btrfs" => btrfs::geometry(mount, reopen(root)?.as_fd()),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// `ioctl(2)` and `open_by_handle_at(2)` take no `O_PATH` descriptor.
fn reopen(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    openat(root, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Looks at an inode; `None` if it is not there any more or has a name.
fn look(handle: &Handle, mount: &Mount, root: BorrowedFd<'_>) -> Result<Option<(OwnedFd, Unlinked)>, Errno> {
    let inode = match open_settled(handle, root) {
        Ok(inode) => inode,
        // Freed since it was listed.
        Err(Errno::ESTALE) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let stat = statx_fd(inode.as_fd())?;
    if stat.links > 0 {
        // Listed for another reason, or linked again: open(2), O_TMPFILE.
        return Ok(None);
    }
    let path = last_name(inode.as_fd(), &stat, mount);
    Ok(Some((inode, Unlinked { stat, path })))
}

/// A handle whose inode number is just being given to a new file is answered with `ENOMEM`:
/// `iget_locked` (fs/inode.c) finds the inode marked `I_CREATING` and returns nothing, which ext4 and
/// btrfs take for a lack of memory. Soon it is known to be another's.
fn open_settled(handle: &Handle, root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const TRIES: u32 = 50;
    for _ in 1..TRIES {
        match handle.open(root) {
            Err(Errno::ENOMEM) => sleep(Duration::from_millis(1)),
            settled => return settled,
        }
    }
    handle.open(root)
}

/// The 32-bit words of a number as they follow each other in memory.
fn words(number: u64) -> [u32; 2] {
    let halves = number.to_ne_bytes();
    let (words, _) = halves.as_chunks();
    std::array::from_fn(|index| words.get(index).copied().map_or(0, u32::from_ne_bytes))
}

/// The name that an opened inode without name last had.
fn last_name(inode: BorrowedFd<'_>, stat: &Stat, mount: &Mount) -> Option<PathBuf> {
    let link = CString::new(format!("/proc/self/fd/{}", inode.as_raw_fd())).ok()?;
    former(readlinkat(AT_FDCWD, link.as_c_str()).ok()?, stat.inode, mount)
}

fn former(link: OsString, inode: u64, mount: &Mount) -> Option<PathBuf> {
    // Without the suffix it is not a name, but what stands in for an unknown one: "/".
    let link = link.into_vec();
    let path = PathBuf::from(OsString::from_vec(link.strip_suffix(b" (deleted)")?.to_vec()));
    path.file_name()?;
    // Where a mount shows a part of the filesystem only, the path of what is outside of it begins at
    // the filesystem's root (fs/d_path.c, `prepend_path`), and would be taken for another file's.
    let shown = mount.root == Path::new("/") || path.starts_with(&mount.mountpoint);
    (shown && !is_stand_in(&path, inode)).then_some(path)
}
