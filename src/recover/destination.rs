//! Where a copy goes. It is written without any name (`O_TMPFILE`) where the
//! filesystem can do that, so that even SIGKILL leaves nothing; else beside its place, under a name of
//! its own. Its real name it gets when it is whole, and takes no other file's place unless told to.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, Permissions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use tempfile::NamedTempFile;

use super::{errno, is_symlink};
use crate::escape;
use crate::refusal::Refusal;
use crate::sys::scout;

/// Deleted files may hold what nobody else was to read.
const PRIVATE: u32 = 0o600;

/// How names of copies begin that are not whole.
pub(super) const DRAFT: &str = ".whyfull-";

/// A name in a directory that stays the same one.
#[derive(Debug)]
pub(super) struct Destination {
    directory: OwnedFd,
    parent: PathBuf,
    name: OsString,
    force: bool,
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

impl Destination {
    /// `path` itself, or `name` in it if it is a directory.
    pub(super) fn resolve(path: &Path, name: &OsStr, force: bool) -> Result<Self, Refusal> {
        if is_symlink(path) {
            return Err(Refusal::Symlink(path.to_owned()));
        }
        if path.is_dir() {
            return Self::within(path, name, force);
        }
        let wants_directory = path.as_os_str().as_bytes().ends_with(b"/");
        let (false, Some(name)) = (wants_directory, path.file_name()) else {
            return Err(Refusal::system(&escape::path(path), Errno::ENOTDIR));
        };
        let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        Self::within(parent, name, force)
    }

    /// `name` in the directory `parent`. What is there already is found out before any work is done.
    pub(super) fn within(parent: &Path, name: &OsStr, force: bool) -> Result<Self, Refusal> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(parent, flags, Mode::empty());
        let directory = directory.map_err(|errno| Refusal::system(&escape::path(parent), errno))?;
        let (parent, name) = (parent.to_owned(), name.to_owned());
        let destination = Self { directory, parent, name, force };
        match destination.place().symlink_metadata() {
            Err(_) => Ok(destination),
            Ok(there) if there.is_symlink() => Err(Refusal::Symlink(destination.path())),
            Ok(there) if !there.is_file() => Err(Refusal::NotReplaceable(destination.path())),
            Ok(_) if force => Ok(destination),
            Ok(_) => Err(Refusal::Exists(destination.path())),
        }
    }

    /// Its path, for people.
    pub(super) fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// The directory's path, for people.
    pub(super) fn parent(&self) -> PathBuf {
        self.parent.clone()
    }

    /// The directory, opened with `O_PATH`.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// A failure to write there.
    pub(super) fn failed(&self, errno: Errno) -> Refusal {
        Refusal::system(&escape::path(&self.path()), errno)
    }

    /// The directory by its descriptor: its path may lead elsewhere by now.
    fn base(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.directory.as_raw_fd()).into()
    }

    fn place(&self) -> PathBuf {
        self.base().join(&self.name)
    }

    /// A new file to write to.
    pub(super) fn draft(&self) -> Result<Draft, Refusal> {
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        match openat(&self.directory, ".", flags, Mode::from_bits_truncate(PRIVATE)) {
            Ok(file) => return Ok(Draft::Nameless(file.into())),
            // The kernel or the filesystem cannot do that: open(2).
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL | Errno::ENOENT) => {}
            Err(Errno::ENOSPC) => return Err(Refusal::NoInode(self.parent())),
            Err(errno) => return Err(Refusal::system(&escape::path(&self.parent), errno)),
        }
        self.named_draft()
    }

    fn named_draft(&self) -> Result<Draft, Refusal> {
        let named = tempfile::Builder::new()
            .prefix(DRAFT)
            .permissions(Permissions::from_mode(PRIVATE))
            .tempfile_in(self.base());
        named.map(Draft::Named).map_err(|error| self.failed(errno(&error)))
    }
}

/// A file that has not got its name yet. Dropped, it is gone.
pub(super) enum Draft {
    Nameless(File),
    Named(NamedTempFile),
}

impl Draft {
    pub(super) fn file(&self) -> &File {
        match self {
            Self::Nameless(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Gives it its name.
    pub(super) fn publish(self, destination: &Destination) -> Result<(), Refusal> {
        let done = match self {
            Self::Nameless(file) if destination.force => replace(&file, destination),
            Self::Nameless(file) => link(&file, destination, &destination.name),
            Self::Named(file) => rename(file, destination),
        };
        done.map_err(|errno| match errno {
            Errno::EEXIST => Refusal::Exists(destination.path()),
            errno => destination.failed(errno),
        })
    }
}

/// `open(2)`, `O_TMPFILE`, shows this way, which takes no capability.
fn link(file: &File, destination: &Destination, name: &OsStr) -> Result<(), Errno> {
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(AT_FDCWD, nameless.as_str(), &destination.directory, name, AtFlags::AT_SYMLINK_FOLLOW)
}

/// No call both links and replaces: it gets another name first.
fn replace(file: &File, destination: &Destination) -> Result<(), Errno> {
    let directory = &destination.directory;
    let beside = OsString::from(format!("{DRAFT}{}-{}", std::process::id(), file.as_raw_fd()));
    link(file, destination, &beside)?;
    let renamed = renameat(directory, beside.as_os_str(), directory, destination.name.as_os_str());
    if renamed.is_err() {
        // What failed is told; that this would fail, too, is no news.
        let _ = unlinkat(directory, beside.as_os_str(), UnlinkatFlags::NoRemoveDir);
    }
    renamed
}

fn rename(file: NamedTempFile, destination: &Destination) -> Result<(), Errno> {
    // Filesystems without O_TMPFILE are mostly servers, which may tell only now that they are full.
    file.as_file().sync_all().map_err(|error| errno(&error))?;
    let place = destination.place();
    let done = if destination.force { file.persist(place) } else { file.persist_noclobber(place) };
    done.map(drop).map_err(|failed| errno(&failed.error))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn where_no_file_can_be_without_a_name_it_has_one_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let to = |force| Destination::within(directory.path(), OsStr::new("copy"), force).unwrap();
        let draft = |destination: &Destination, text: &str| {
            let draft = destination.named_draft().unwrap();
            let mut file = draft.file();
            file.write_all(text.as_bytes()).unwrap();
            draft
        };
        let there = || {
            let entries = fs::read_dir(directory.path()).unwrap();
            entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect::<Vec<_>>()
        };
        drop(draft(&to(false), "given up"));
        assert!(there().is_empty());
        let (first, late) = (to(false), to(false));
        draft(&first, "first").publish(&first).unwrap();
        let refused = draft(&late, "late").publish(&late);
        assert!(matches!(refused, Err(Refusal::Exists(_))), "{refused:?}");
        assert_eq!(there(), ["first"]);
        let forced = to(true);
        draft(&forced, "forced").publish(&forced).unwrap();
        assert_eq!(there(), ["forced"]);
    }

    #[test]
    fn a_name_that_was_taken_meanwhile_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let destination = Destination::within(directory.path(), OsStr::new("copy"), false).unwrap();
        let draft = destination.draft().unwrap();
        fs::write(directory.path().join("copy"), "another's").unwrap();
        assert!(matches!(draft.publish(&destination), Err(Refusal::Exists(_))));
        assert_eq!(fs::read(directory.path().join("copy")).unwrap(), b"another's");
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
