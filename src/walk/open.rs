// SPDX-License-Identifier: MIT OR Apache-2.0

//! How the walk opens directories: by name, or by several names, without ever crossing into another mount. A
//! mount that has come since mountinfo was read may belong to a server that does not answer.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;

/// Opens without crossing into another mount, as far as the kernel lets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opener {
    /// Whether there is openat2(2): since Linux 5.6, where no filter of system calls forbids it.
    knows_mounts: bool,
}

impl Opener {
    /// Finds out what the kernel knows, at a directory.
    pub(super) fn new(directory: BorrowedFd<'_>) -> Self {
        let knows_mounts = inside(directory, c".", OFlag::O_PATH | OFlag::O_CLOEXEC).is_ok();
        Self { knows_mounts }
    }

    /// Opens a directory for reading without changing its access time, where that is permitted: to
    /// its owner and to `CAP_FOWNER` (open(2), `O_NOATIME`). `EXDEV` where something is mounted on it.
    pub(super) fn directory(self, at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
        let flags =
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        match self.open(at, name, flags | OFlag::O_NOATIME) {
            Err(Errno::EPERM) => self.open(at, name, flags),
            result => result,
        }
    }

    /// Goes down by `names` and opens where they lead to, good enough to look names up there.
    pub(super) fn down(self, start: BorrowedFd<'_>, names: &[&[u8]]) -> Result<OwnedFd, Errno> {
        let mut at: Option<OwnedFd> = None;
        for piece in pieces(names) {
            let start = at.as_ref().map_or(start, |at| at.as_fd());
            at = Some(self.open(start, OsStr::from_bytes(&piece), PASSING)?);
        }
        at.ok_or(Errno::ESTALE)
    }

    /// Goes up by so many levels.
    pub(super) fn up(self, start: BorrowedFd<'_>, levels: usize) -> Result<OwnedFd, Errno> {
        self.down(start, &vec![b"..".as_slice(); levels])
    }

    fn open<P: ?Sized + NixPath>(self, at: BorrowedFd<'_>, path: &P, flags: OFlag) -> Result<OwnedFd, Errno> {
        if self.knows_mounts { inside(at, path, flags) } else { openat(at, path, flags, Mode::empty()) }
    }
}

const PASSING: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// `RESOLVE_NO_XDEV`, openat2(2): the mounted filesystem is not asked for anything.
fn inside<P: ?Sized + NixPath>(at: BorrowedFd<'_>, path: &P, flags: OFlag) -> Result<OwnedFd, Errno> {
    openat2(at, path, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV))
}

/// Names joined to relative paths, each short enough for one call.
fn pieces(names: &[&[u8]]) -> Vec<Vec<u8>> {
    let limit = usize::try_from(libc::PATH_MAX).unwrap_or(4096);
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for name in names {
        match pieces.last_mut() {
            Some(piece) if piece.len() + 1 + name.len() < limit => {
                piece.push(b'/');
                piece.extend_from_slice(name);
            }
            _ => pieces.push(name.to_vec()),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn long_ways_come_in_pieces_shorter_than_path_max() {
        let name = [b'a'; 255];
        let names = vec![name.as_slice(); 100];
        let pieces = pieces(&names);
        assert!(pieces.iter().all(|piece| piece.len() < 4096));
        assert_eq!(pieces.join(&b'/'), names.join(&b'/'));
    }

    #[test]
    fn other_mounts_are_not_entered() {
        let root = fs::File::open("/").unwrap();
        let opener = Opener { knows_mounts: true };
        assert_eq!(opener.directory(root.as_fd(), c"proc").err(), Some(Errno::EXDEV));
        assert_eq!(opener.down(root.as_fd(), &[b"proc", b"self"]).err(), Some(Errno::EXDEV));
        assert!(Opener { knows_mounts: false }.directory(root.as_fd(), c"proc").is_ok());
    }

    #[test]
    fn ways_down_and_up() {
        use std::os::unix::fs::MetadataExt;
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("a/b/c")).unwrap();
        let root = fs::File::open(top.path()).unwrap();
        for opener in [Opener::new(root.as_fd()), Opener { knows_mounts: false }] {
            let inode = |fd: OwnedFd| fs::File::from(fd).metadata().unwrap().ino();
            let down = opener.down(root.as_fd(), &[b"a", b"b", b"c"]).unwrap();
            let up = opener.up(down.as_fd(), 2).unwrap();
            assert_eq!(inode(up), top.path().join("a").metadata().unwrap().ino());
            assert_eq!(inode(down), top.path().join("a/b/c").metadata().unwrap().ino());
        }
    }
}
