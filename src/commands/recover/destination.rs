// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where a copy goes: a directory, and a name in it that no other file loses unless that is wanted.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use crate::commands::destination::{Directory, Found, LastLink, Temporary, file_type, find};
use crate::commands::refusal::Refusal;
use crate::model::errno::errno;
use crate::model::escape;
use crate::sys::scout;

/// A name in a directory.
#[derive(Debug)]
pub(super) struct Destination<'a> {
    directory: &'a Directory,
    name: OsString,
    force: bool,
    /// A name that must not be taken.
    reserved: Option<&'static str>,
}

/// The name that a copy gets in a directory: the last component of the file's last path, else one made
/// of its number.
pub(super) fn former_name(path: Option<&Path>, inode: u64) -> OsString {
    let name = path.and_then(Path::file_name).map(OsStr::to_owned);
    name.unwrap_or_else(|| format!("inode-{inode}").into())
}

/// Makes sure that whoever has to be asked for a copy at `path`, or in it, answers within `timeout`.
pub(super) fn reach(path: &Path, timeout: Duration) -> Result<(), Refusal> {
    let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    match scout::all_answer(&[&name(path), &name(parent)], timeout) {
        Ok(false) => Err(Refusal::NoAnswer { subject: escape::path(path), timeout }),
        // Where no child can be had, going without one is better than not at all.
        Ok(true) | Err(_) => Ok(()),
    }
}

/// The directory `path`, which is no link.
pub(super) fn directory(path: &Path) -> Result<Directory, Refusal> {
    match find(path, LastLink::Refuse)? {
        Found::Directory(directory) => Ok(directory),
        Found::Name(_, _, None) => Err(Refusal::system(&escape::path(path), Errno::ENOENT)),
        _ => Err(Refusal::system(&escape::path(path), Errno::ENOTDIR)),
    }
}

/// The directory and the name that `path` stands for: `former` in it if it is a directory itself.
pub(super) fn directory_and_name(path: &Path, former: OsString) -> Result<(Directory, OsString), Refusal> {
    match find(path, LastLink::Refuse)? {
        Found::Directory(directory) => Ok((directory, former)),
        Found::Name(directory, name, _) => Ok((directory, name)),
        Found::Descriptor(_) | Found::Open(_) => Err(Refusal::NotReplaceable(path.to_owned())),
    }
}

impl<'a> Destination<'a> {
    /// `name` in `directory`. What is there already is found out before any work is done.
    pub(super) fn new(directory: &'a Directory, name: &OsStr, force: bool) -> Result<Self, Refusal> {
        let destination = Self { directory, name: name.to_owned(), force, reserved: None };
        match directory.look(name).map_err(|errno| destination.failed(errno))? {
            None => Ok(destination),
            Some(there) => match file_type(&there) {
                libc::S_IFLNK => Err(Refusal::Symlink(destination.path())),
                libc::S_IFREG if force => Ok(destination),
                libc::S_IFREG => Err(Refusal::Exists(destination.path())),
                _ => Err(Refusal::NotReplaceable(destination.path())),
            },
        }
    }

    /// Never takes the name `reserved`, not even where the filesystem thinks that the two are the same, as
    /// when it does not tell capitals.
    pub(super) fn without_taking(self, reserved: &'static str) -> Self {
        Self { reserved: Some(reserved), ..self }
    }

    /// Its path, for people.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join(&self.name)
    }

    /// Its directory.
    pub(super) fn directory(&self) -> &'a Directory {
        self.directory
    }

    /// A failure to write there.
    pub(super) fn failed(&self, errno: Errno) -> Refusal {
        Refusal::system(&escape::path(&self.path()), errno)
    }

    /// A new file to write to.
    pub(super) fn begin(&self) -> Result<Temporary<'a>, Refusal> {
        Temporary::new(self.directory).map_err(|errno| match errno {
            Errno::ENOSPC => Refusal::NoInode(self.directory.path().to_owned()),
            errno => Refusal::system(&escape::path(self.directory.path()), errno),
        })
    }

    /// Gives the file its name.
    pub(super) fn publish(&self, temporary: Temporary<'_>) -> Result<(), Refusal> {
        let metadata = temporary.file().metadata().map_err(|error| self.failed(errno(&error)))?;
        temporary.publish(&self.name, self.force).map_err(|errno| match errno {
            Errno::EEXIST => Refusal::Exists(self.path()),
            errno => self.failed(errno),
        })?;
        let taken = self.reserved.and_then(|reserved| self.directory.look(OsStr::new(reserved)).ok()?);
        if taken.is_some_and(|taken| (taken.st_dev, taken.st_ino) == (metadata.dev(), metadata.ino())) {
            self.directory.remove(&self.name).map_err(|errno| self.failed(errno))?;
            return Err(Refusal::Exists(self.path()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_name_that_was_taken_meanwhile_is_not_replaced() {
        let path = tempfile::tempdir().unwrap();
        let directory = directory(path.path()).unwrap();
        let destination = Destination::new(&directory, OsStr::new("copy"), false).unwrap();
        let temporary = destination.begin().unwrap();
        fs::write(path.path().join("copy"), "another's").unwrap();
        assert!(matches!(destination.publish(temporary), Err(Refusal::Exists(_))));
        assert_eq!(fs::read(path.path().join("copy")).unwrap(), b"another's");
    }

    #[test]
    fn the_reserved_name_is_not_taken() {
        let path = tempfile::tempdir().unwrap();
        let directory = directory(path.path()).unwrap();
        // As if `name` were the same as `index` on this filesystem.
        let destination = Destination::new(&directory, OsStr::new("index"), false).unwrap();
        let destination = destination.without_taking("index");
        let temporary = destination.begin().unwrap();
        assert!(matches!(destination.publish(temporary), Err(Refusal::Exists(_))));
        assert_eq!(fs::read_dir(path.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_the_last_component_of_a_former_name_counts() {
        let name = |path: Option<&str>| former_name(path.map(Path::new), 7);
        assert_eq!(name(Some("/var/log/app.log")), "app.log");
        assert_eq!(name(Some("/")), "inode-7");
        assert_eq!(name(Some("/a/..")), "inode-7");
        assert_eq!(name(None), "inode-7");
    }
}
