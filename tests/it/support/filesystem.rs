// SPDX-License-Identifier: MIT OR Apache-2.0

//! Real filesystems, each in a directory of its own.
//!
//! They are mounted in a mount namespace of the calling thread, and the image
//! loses its name as soon as it is mounted: when the thread and the programs that
//! it started are gone, so are mount, loop device and image, even after SIGKILL.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

use super::{MIB, temp_dir, tool};

/// The smallest that `mkfs.xfs` and `mkfs.btrfs` agree to.
const XFS_SIZE: u64 = 300 * MIB;
const BTRFS_SIZE: u64 = 128 * MIB;

/// A mounted filesystem that is unmounted when this goes out of scope.
pub(crate) struct Filesystem {
    mountpoint: PathBuf,
    dir: TempDir,
}

impl Filesystem {
    pub(crate) fn ext4(size: u64) -> Self {
        Self::ext4_with(size, &[], "")
    }

    /// Nothing is left to be initialised later: a quiet filesystem stays quiet.
    pub(crate) fn ext4_with(size: u64, mkfs: &[&str], options: &str) -> Self {
        let quiet = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        Self::on_loop("mkfs.ext4", &[&quiet, mkfs].concat(), size, options)
    }

    pub(crate) fn xfs() -> Self {
        Self::on_loop("mkfs.xfs", &["-q", "-f"], XFS_SIZE, "")
    }

    pub(crate) fn btrfs() -> Self {
        Self::btrfs_with("")
    }

    pub(crate) fn btrfs_with(options: &str) -> Self {
        Self::on_loop("mkfs.btrfs", &["-q", "-f"], BTRFS_SIZE, options)
    }

    /// One of each kind.
    pub(crate) fn all() -> [Self; 4] {
        [Self::ext4(64 * MIB), Self::xfs(), Self::btrfs(), Self::tmpfs(64 * MIB)]
    }

    pub(crate) fn tmpfs(size: u64) -> Self {
        Self::tmpfs_with(size, MsFlags::empty())
    }

    pub(crate) fn tmpfs_with(size: u64, flags: MsFlags) -> Self {
        let empty = Self::unmounted();
        mount_tmpfs(&empty.mountpoint, size, flags);
        empty
    }

    /// A filesystem in an image of the test's own, which keeps its name.
    pub(crate) fn of_image(image: &Path, options: &str) -> Self {
        let empty = Self::unmounted();
        mount_image(image, &empty.mountpoint, options);
        empty
    }

    fn unmounted() -> Self {
        own_mount_namespace();
        let dir = temp_dir();
        let mountpoint = dir.path().join("fs");
        fs::create_dir(&mountpoint).unwrap();
        Self { mountpoint, dir }
    }

    fn on_loop(mkfs: &str, args: &[&str], size: u64, options: &str) -> Self {
        let empty = Self::unmounted();
        let image = empty.dir.path().join("image");
        File::create_new(&image).unwrap().set_len(size).unwrap();
        let args: Vec<_> = args.iter().map(OsStr::new).collect();
        tool(mkfs, &[args.as_slice(), &[image.as_os_str()]].concat());
        mount_image(&image, &empty.mountpoint, options);
        fs::remove_file(&image).unwrap();
        match fs::set_permissions(&empty.mountpoint, PermissionsExt::from_mode(0o755)) {
            Err(error) if error.kind() != std::io::ErrorKind::ReadOnlyFilesystem => panic!("{error}"),
            _ => {}
        }
        empty
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mountpoint
    }

    /// What df calls used. btrfs knows only when all is written out.
    pub(crate) fn used(&self) -> u64 {
        nix::unistd::syncfs(File::open(self.path()).unwrap()).unwrap();
        let stat = statvfs(self.path()).unwrap();
        (stat.blocks() - stat.blocks_free()) * stat.fragment_size()
    }

    /// A directory beside the filesystem, for further mounts of the test.
    pub(crate) fn beside(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        if !unmount_below(self.dir.path()) {
            // Never remove what belongs to something that is still mounted here.
            self.dir.disable_cleanup(true);
        }
    }
}

/// Unmounts whatever this thread's namespace has below `dir`, last mounted first.
fn unmount_below(dir: &Path) -> bool {
    let table = fs::read("/proc/thread-self/mountinfo").unwrap_or_default();
    let dir = dir.as_os_str().as_encoded_bytes();
    let points = table.split(|&b| b == b'\n').filter_map(|line| {
        let point = unescape(line.split(|&b| b == b' ').nth(4)?);
        let rest = point.strip_prefix(dir)?;
        rest.starts_with(b"/").then_some(point)
    });
    let points: Vec<_> = points.collect();
    points.iter().rev().fold(true, |all, point| {
        let point = point.as_slice();
        // Something that was just killed may still be on its way out.
        let done = umount2(point, MntFlags::empty()).or_else(|_| umount2(point, MntFlags::MNT_DETACH));
        all && done.is_ok()
    })
}

/// mountinfo writes blanks, line breaks and backslashes as `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten();
        let code = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(code) = code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(code);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    bytes
}

/// mount(8) marks the loop device so that it goes with the mount.
fn mount_image(image: &Path, at: &Path, options: &str) {
    let options = ["loop", options].join(",");
    let options = ["-o", options.trim_end_matches(',')].map(OsStr::new);
    tool("mount", &[options, [image.as_os_str(), at.as_os_str()]].concat());
}

pub(crate) fn mount_tmpfs(at: &Path, size: u64, flags: MsFlags) {
    let options = format!("size={size},mode=755");
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options.as_str())).unwrap();
}

pub(crate) fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// What this thread and its children mount is seen by nobody else.
pub(crate) fn own_mount_namespace() {
    thread_local! {
        static DONE: Cell<bool> = const { Cell::new(false) };
    }
    if DONE.replace(true) {
        return;
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("private mounts");
}
