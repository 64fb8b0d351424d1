// SPDX-License-Identifier: MIT OR Apache-2.0

//! Follows a path as the kernel does, but not a link that somebody else could have made. A link counts only
//! if it and its directory belong to the caller or to root, and nobody else can write to that directory or
//! exchange it for another. That is stricter than `fs.protected_symlinks` (`proc_sys_fs(5)`), which knows only
//! sticky directories and may be off. Each directory is opened by itself with `O_NOFOLLOW`, so that what
//! was looked at is what is used, whatever is renamed meanwhile.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat, stat};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, FsType, PROC_SUPER_MAGIC, fstatfs};

use super::{Directory, Trust, file_type, is_owner_trusted, trust};
use crate::commands::refusal::Refusal;
use crate::model::escape;

/// As many as the kernel follows: `path_resolution(7)`.
const MOST_LINKS: u32 = 40;

/// What to do with a link in the last part of a path. One with a slash behind it is not the last part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// Follow it if it can be trusted.
    Follow,
    /// Refuse it.
    Refuse,
}

/// What a path leads to.
#[derive(Debug)]
pub enum Found {
    /// A directory.
    Directory(Directory),
    /// A name in a directory, and what has that name, open with `O_PATH`.
    Name(Directory, OsString, Option<OwnedFd>),
    /// A descriptor of this process: `/dev/stdout`, `/dev/fd/63`.
    Descriptor(RawFd),
    /// What another process has open, open with `O_PATH`.
    Open(OwnedFd),
}

/// Follows `path`. What is not there is told only of directories on the way.
pub fn find(path: &Path, last_link: LastLink) -> Result<Found, Refusal> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(Refusal::system(&"\"\"", Errno::ENOENT));
    }
    if let Some(number) = descriptor_by_name(bytes) {
        return Ok(Found::Descriptor(number));
    }
    let failed = |errno| Refusal::system(&escape::path(path), errno);
    let mut walk = Walk::begin(path, last_link).map_err(failed)?;
    walk.push(bytes);
    walk.run()
}

/// The number of a descriptor that is called by one of its usual names, as bash has them, too: they mean the
/// same in a root directory without /dev.
fn descriptor_by_name(path: &[u8]) -> Option<RawFd> {
    match path {
        b"/dev/stdin" => Some(libc::STDIN_FILENO),
        b"/dev/stdout" => Some(libc::STDOUT_FILENO),
        b"/dev/stderr" => Some(libc::STDERR_FILENO),
        path => {
            let number = path.strip_prefix(b"/dev/fd/").or_else(|| path.strip_prefix(b"/proc/self/fd/"))?;
            descriptor(number)
        }
    }
}

/// The number of a descriptor, written as /proc does.
fn descriptor(number: &[u8]) -> Option<RawFd> {
    let parsed = std::str::from_utf8(number).ok()?.parse::<u32>().ok()?;
    RawFd::try_from(parsed).ok().filter(|_| parsed.to_string().as_bytes() == number)
}

struct Walk<'a> {
    given: &'a Path,
    last_link: LastLink,
    at: OwnedFd,
    /// Where it is, for people.
    path: PathBuf,
    trust: Trust,
    /// The device of `at`.
    device: libc::dev_t,
    /// The parts of the path that are left, the next one last.
    left: Vec<OsString>,
    links: u32,
}

const DIRECTORY: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const ANYTHING: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

impl<'a> Walk<'a> {
    fn begin(given: &'a Path, last_link: LastLink) -> Result<Self, Errno> {
        // A relative path is shown as it was given.
        let (start, path) = if given.is_absolute() { ("/", "/") } else { (".", "") };
        let at = open(start, DIRECTORY, Mode::empty())?;
        let mut walk = Self::from(at, path.into(), given, last_link)?;
        if !given.is_absolute() && is_on(&walk.at, FUSE_SUPER_MAGIC) {
            walk.trust = Trust::None;
        }
        Ok(walk)
    }

    fn from(at: OwnedFd, path: PathBuf, given: &'a Path, last_link: LastLink) -> Result<Self, Errno> {
        let stat = fstat(&at)?;
        let (trust, device) = (trust(&stat), stat.st_dev);
        Ok(Self { given, last_link, at, path, trust, device, left: Vec::new(), links: 0 })
    }

    /// Puts a path before what is left.
    fn push(&mut self, path: &[u8]) {
        let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
        let mut parts: Vec<OsString> = parts.map(|part| OsStr::from_bytes(part).to_owned()).collect();
        if path.ends_with(b"/") {
            parts.push(".".into());
        }
        self.left.extend(parts.into_iter().rev());
    }

    fn run(mut self) -> Result<Found, Refusal> {
        while let Some(part) = self.left.pop() {
            let is_last = self.left.is_empty();
            match openat(&self.at, part.as_os_str(), DIRECTORY, Mode::empty()) {
                Ok(directory) => {
                    self.enter(&part, directory)?;
                    continue;
                }
                Err(Errno::ENOENT) if is_last => return Ok(Found::Name(self.directory(), part, None)),
                // With O_DIRECTORY a link, too, is told by ENOTDIR: open(2).
                Err(Errno::ENOTDIR | Errno::ELOOP) => {}
                // As for every program that makes files: `missing/` is none.
                Err(Errno::ENOENT) if self.left == ["."] => return Err(self.failed(&part, Errno::ENOTDIR)),
                Err(errno) => return Err(self.failed(&part, errno)),
            }
            let there = openat(&self.at, part.as_os_str(), ANYTHING, Mode::empty());
            let there = there.map_err(|errno| self.failed(&part, errno))?;
            let stat = fstat(&there).map_err(|errno| self.failed(&part, errno))?;
            if file_type(&stat) == libc::S_IFLNK {
                if let Some(found) = self.follow(&part, &there, &stat)? {
                    return Ok(found);
                }
            } else if is_last {
                return Ok(Found::Name(self.directory(), part, Some(there)));
            } else {
                return Err(self.failed(&part, Errno::ENOTDIR));
            }
        }
        let (fd, path, trust) = (self.at, self.given.to_owned(), self.trust);
        Ok(Found::Directory(Directory { fd, path, trust }))
    }

    /// The directory it is in, which was given as all but the last part of the path.
    fn directory(self) -> Directory {
        let parent = self.given.parent().filter(|parent| *parent != Path::new(""));
        let path = parent.unwrap_or(Path::new(".")).to_owned();
        Directory { fd: self.at, path, trust: self.trust }
    }

    fn failed(&self, part: &OsStr, errno: Errno) -> Refusal {
        Refusal::system(&escape::path(&self.path.join(part)), errno)
    }

    /// Goes on in a directory. Below one that others can write to nothing can be trusted: it may be
    /// exchanged for another, or have come from elsewhere.
    fn enter(&mut self, part: &OsStr, directory: OwnedFd) -> Result<(), Refusal> {
        let stat = fstat(&directory).map_err(|errno| self.failed(part, errno))?;
        if self.trust != Trust::None {
            self.trust = trust(&stat);
        }
        // A server of FUSE may be an ordinary user's, and says that owners and modes are what it likes.
        if stat.st_dev != self.device && is_on(&directory, FUSE_SUPER_MAGIC) {
            self.trust = Trust::None;
        }
        (self.at, self.device) = (directory, stat.st_dev);
        self.path.push(part);
        Ok(())
    }

    /// Follows the link `there`. What it leads to, where it is a link of /proc to something open.
    fn follow(&mut self, part: &OsStr, there: &OwnedFd, stat: &FileStat) -> Result<Option<Found>, Refusal> {
        let link = self.path.join(part);
        let is_last = self.left.is_empty();
        if is_last && self.last_link == LastLink::Refuse {
            return Err(Refusal::Symlink(link));
        }
        if self.trust != Trust::Full || !is_owner_trusted(stat) {
            return Err(Refusal::ForeignLink(link));
        }
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Refusal::system(&escape::path(&link), Errno::ELOOP));
        }
        let failed = |errno| Refusal::system(&escape::path(&link), errno);
        if is_on(&self.at, PROC_SUPER_MAGIC) {
            return self.jump(part);
        }
        let target = readlinkat(there, "").map_err(failed)?.into_vec();
        if target.starts_with(b"/") {
            let begun = Self::begin(Path::new("/"), self.last_link).map_err(failed)?;
            (self.at, self.path) = (begun.at, begun.path);
            (self.trust, self.device) = (begun.trust, begun.device);
        }
        self.push(&target);
        Ok(None)
    }

    /// Follows a link of /proc, which leads where its text may not: `proc_pid_fd(5)`. What another process
    /// has as its root or working directory may be a container's, whose links are not ours to follow.
    fn jump(&mut self, part: &OsStr) -> Result<Option<Found>, Refusal> {
        if let Some(number) = self.own_descriptor(part) {
            return Ok(Some(Found::Descriptor(number)));
        }
        let (flags, is_last) = (OFlag::O_PATH | OFlag::O_CLOEXEC, self.left.is_empty());
        let led = openat(&self.at, part, flags, Mode::empty()).map_err(|errno| self.failed(part, errno))?;
        let stat = fstat(&led).map_err(|errno| self.failed(part, errno))?;
        if file_type(&stat) != libc::S_IFDIR {
            let errno = Errno::ENOTDIR;
            return if is_last { Ok(Some(Found::Open(led))) } else { Err(self.failed(part, errno)) };
        }
        // `self`, `thread-self` and `net` stay within /proc.
        let stays = is_on(&led, PROC_SUPER_MAGIC);
        self.enter(part, led)?;
        if !stays {
            self.trust = Trust::None;
        }
        Ok(None)
    }

    /// The number, if this is a link to a descriptor of this process.
    fn own_descriptor(&self, part: &OsStr) -> Option<RawFd> {
        let number = descriptor(part.as_bytes()).filter(|_| self.left.is_empty())?;
        let (here, own) = (fstat(self.at.as_fd()).ok()?, stat("/proc/self/fd").ok()?);
        ((here.st_dev, here.st_ino) == (own.st_dev, own.st_ino)).then_some(number)
    }
}

fn is_on(directory: &OwnedFd, filesystem: FsType) -> bool {
    fstatfs(directory).is_ok_and(|found| found.filesystem_type() == filesystem)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Follows `path` from `start` on.
    fn from(start: &Path, path: &str, last_link: LastLink) -> Result<Found, Refusal> {
        let at = open(start, DIRECTORY, Mode::empty()).unwrap();
        let mut walk = Walk::from(at, PathBuf::new(), Path::new(path), last_link).unwrap();
        walk.push(path.as_bytes());
        walk.run()
    }

    fn kind(found: Result<Found, Refusal>) -> String {
        match found {
            Ok(Found::Directory(directory)) => format!("directory {}", directory.is_trusted()),
            Ok(Found::Name(directory, name, there)) => {
                format!("{} {} {}", name.display(), there.is_some(), directory.is_trusted())
            }
            Ok(Found::Descriptor(number)) => format!("descriptor {number}"),
            Ok(Found::Open(_)) => "open".to_owned(),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn own_links_in_own_directories_are_followed() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        fs::write(directory.path().join("a/b/file"), "").unwrap();
        symlink("a/b", directory.path().join("link")).unwrap();
        symlink("../file", directory.path().join("a/b/up")).unwrap();
        let follow = |path: &str| kind(from(directory.path(), path, LastLink::Follow));
        assert_eq!(follow("a/b"), "directory true");
        assert_eq!(follow("link/file"), "file true true");
        assert_eq!(follow("link/../b//./file"), "file true true");
        assert_eq!(follow("link"), "directory true");
        assert_eq!(follow("link/up"), "file false true");
        assert_eq!(follow("link/file/"), "link/file: Not a directory".replace("link", "a/b"));
        let refuse = |path: &str| kind(from(directory.path(), path, LastLink::Refuse));
        assert_eq!(refuse("link/file"), "file true true");
        assert_eq!(refuse("link/"), "directory true");
        assert!(refuse("link").contains("is a symbolic link"));
    }

    #[test]
    fn no_link_is_followed_where_others_can_write() {
        let directory = tempfile::tempdir().unwrap();
        for (name, mode) in [("sticky", 0o1777), ("group", 0o775)] {
            let shared = directory.path().join(name);
            fs::create_dir_all(shared.join("inner")).unwrap();
            fs::set_permissions(&shared, Permissions::from_mode(mode)).unwrap();
            symlink("inner", shared.join("link")).unwrap();
            symlink(".", shared.join("inner/link")).unwrap();
            let trusted = name == "group" && !nix::unistd::geteuid().is_root();
            let follow = |path: &str| from(directory.path(), &format!("{name}/{path}"), LastLink::Follow);
            for path in ["link", "link/new", "link/", "link/link"] {
                assert!(trusted || matches!(follow(path), Err(Refusal::ForeignLink(_))), "{name}/{path}");
            }
            // Nobody else can exchange this user's directory for another where it is sticky.
            let inner = follow("inner/link");
            let is_safe = trusted || name == "sticky";
            assert_eq!(is_safe, inner.is_ok(), "{inner:?}");
            assert_eq!(kind(follow("inner/new")), format!("new false {is_safe}"));
        }
    }

    #[test]
    fn a_circle_of_links_ends() {
        let directory = tempfile::tempdir().unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        let said = kind(from(directory.path(), "a", LastLink::Follow));
        assert!(said.contains("symbolic links"), "{said}");
    }

    #[test]
    fn own_descriptors_are_told_by_their_numbers() {
        let find = |path: &str| kind(find(Path::new(path), LastLink::Follow));
        assert_eq!(find("/proc/self/fd/7"), "descriptor 7");
        assert_eq!(find(&format!("/proc/{}/fd/1", std::process::id())), "descriptor 1");
        assert_eq!(find("/dev/null"), "null true true");
    }
}
