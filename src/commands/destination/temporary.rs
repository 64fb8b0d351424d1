// SPDX-License-Identifier: MIT OR Apache-2.0

//! A file that gets its name when it is whole. Until then it has none (`O_TMPFILE`), so that even SIGKILL
//! leaves nothing; where the filesystem cannot do that (NFS, FUSE, FAT), it has one of its own, which
//! goes when a signal ends the process.

use std::collections::hash_map::RandomState;
use std::ffi::{CString, OsStr};
use std::fs::{File, Permissions};
use std::hash::{BuildHasher, Hasher};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use xattr::FileExt;

use super::Directory;
use crate::model::errno::errno;
use crate::sys::{rename, signals};

/// How names of unfinished files begin.
pub(super) const PREFIX: &str = ".whyfull-";

/// Only the owner may read it.
const PRIVATE: u32 = 0o600;

/// A new file. Dropped without `publish`, it is gone.
pub struct Temporary<'a> {
    directory: &'a Directory,
    file: File,
    name: Option<Named<'a>>,
}

impl<'a> Temporary<'a> {
    /// Makes a file that only the caller may read and write, whatever the directory's default access
    /// control list says.
    pub fn new(directory: &'a Directory) -> Result<Self, Errno> {
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        match openat(directory, ".", flags, Mode::from_bits_truncate(PRIVATE)) {
            Ok(file) => Self { directory, file: file.into(), name: None }.made_private(),
            // The kernel or the filesystem cannot do that: open(2).
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL | Errno::ENOENT) => Self::named(directory),
            Err(errno) => Err(errno),
        }
    }

    fn named(directory: &'a Directory) -> Result<Self, Errno> {
        let name = own_name();
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let terminated = CString::new(name.as_str()).map_err(|_| Errno::EINVAL)?;
        let removal = signals::Removal::on_signal(directory.as_fd(), &terminated);
        let file: OwnedFd = openat(directory, name.as_str(), flags, Mode::from_bits_truncate(PRIVATE))?;
        let name = Named { directory, name: terminated, _removal: removal };
        Self { directory, file: file.into(), name: Some(name) }.made_private()
    }

    fn made_private(self) -> Result<Self, Errno> {
        remove_acl(&self.file)?;
        self.file.set_permissions(Permissions::from_mode(PRIVATE)).map_err(|error| errno(&error))?;
        Ok(self)
    }

    /// What to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name. `EEXIST` if that is taken, unless it `replaces` what is there.
    pub fn publish(self, name: &OsStr, replaces: bool) -> Result<(), Errno> {
        if let Some(temporary) = &self.name {
            // Filesystems without O_TMPFILE are mostly servers, which may tell only now that they are full.
            self.file.sync_all().map_err(|error| errno(&error))?;
            return signals::undisturbed(|| temporary.rename(name, replaces));
        }
        match self.link(name) {
            Err(Errno::EEXIST) if replaces => signals::undisturbed(|| self.replace(name)),
            result => result,
        }
    }

    /// `open(2)`, `O_TMPFILE`, shows this way, which takes no capability.
    fn link(&self, name: &OsStr) -> Result<(), Errno> {
        let nameless = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(AT_FDCWD, nameless.as_str(), self.directory, name, AtFlags::AT_SYMLINK_FOLLOW)
    }

    /// No call both links and replaces: it gets another name first.
    fn replace(&self, name: &OsStr) -> Result<(), Errno> {
        let beside = own_name();
        self.link(OsStr::new(&beside))?;
        let renamed = renameat(self.directory, beside.as_str(), self.directory, name);
        if renamed.is_err() {
            // What failed is told; that this would fail, too, is no news.
            let _ = unlinkat(self.directory, beside.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        renamed
    }
}

/// The name of a file that is not whole. Dropped, it is taken away.
struct Named<'a> {
    directory: &'a Directory,
    name: CString,
    _removal: Option<signals::Removal>,
}

impl Named<'_> {
    fn rename(&self, to: &OsStr, replaces: bool) -> Result<(), Errno> {
        let (directory, from) = (self.directory, self.name.as_c_str());
        if replaces {
            return renameat(directory, from, directory, to);
        }
        let terminated = CString::new(to.as_bytes()).map_err(|_| Errno::EINVAL)?;
        match rename::without_replacing(directory.as_fd(), from, &terminated) {
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {}
            result => return result,
        }
        // An empty file of that name is made, which nobody else's can be, and replaced.
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        drop(openat(directory, to, flags, Mode::from_bits_truncate(PRIVATE))?);
        let renamed = renameat(directory, from, directory, to);
        if renamed.is_err() {
            let _ = unlinkat(directory, to, UnlinkatFlags::NoRemoveDir);
        }
        renamed
    }
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        // After the renaming it is not there any more.
        let _ = unlinkat(self.directory, self.name.as_c_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// A name that nobody can foresee.
fn own_name() -> String {
    // The standard library seeds its hash maps from the kernel's random numbers.
    format!("{PREFIX}{}-{:016x}", std::process::id(), RandomState::new().build_hasher().finish())
}

/// Takes away the access control list that a new file inherits from its directory's default one: a mode
/// that is set afterwards would else be the limit of what it grants to others, acl(5).
fn remove_acl(file: &File) -> Result<(), Errno> {
    match file.remove_xattr("system.posix_acl_access").map_err(|error| errno(&error)) {
        // There is none, or there are none on this filesystem.
        Ok(()) | Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::commands::destination::{Found, LastLink, find};

    fn open(path: &Path) -> Directory {
        match find(path, LastLink::Refuse) {
            Ok(Found::Directory(directory)) => directory,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn with_a_name_of_its_own_or_without_it_takes_no_other_files_place() {
        for is_named in [false, true] {
            let path = tempfile::tempdir().unwrap();
            let directory = open(path.path());
            let with = |text: &str| {
                let new = if is_named { Temporary::named(&directory) } else { Temporary::new(&directory) };
                let temporary = new.unwrap();
                temporary.file().write_all(text.as_bytes()).unwrap();
                temporary
            };
            let there = || {
                let entries = fs::read_dir(path.path()).unwrap();
                entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect::<Vec<_>>()
            };
            let copy = OsStr::new("copy");
            drop(with("given up"));
            assert!(there().is_empty());
            with("first").publish(copy, false).unwrap();
            assert_eq!(with("late").publish(copy, false), Err(Errno::EEXIST));
            assert_eq!(there(), ["first"]);
            with("forced").publish(copy, true).unwrap();
            assert_eq!(there(), ["forced"]);
            with("other").publish(OsStr::new("new"), true).unwrap();
            assert_eq!(there().len(), 2);
            let mode = fs::metadata(path.path().join("copy")).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
        }
    }
}
