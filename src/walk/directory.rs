//! Open directories. As many stay open as the limit on open files allows; when it is
//! reached the ones nearest the root are closed, and opened again when they are needed, by the
//! names that led to them. So any depth can be walked, far beyond `PATH_MAX`.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::covers::Place;
use crate::model::usage::{Id, ROOT, Side};
use crate::sys::Dev;
use crate::sys::stat::{Stat, statx_fd};

/// Opens a directory for reading without changing its access time, where that is permitted: to
/// its owner and to `CAP_FOWNER` (open(2), `O_NOATIME`).
pub(super) fn open_directory(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags =
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    match openat(dir, name, flags | OFlag::O_NOATIME, Mode::empty()) {
        Err(Errno::EPERM) => openat(dir, name, flags, Mode::empty()),
        result => result,
    }
}

/// Where a directory is, before it is opened.
pub(super) struct Position {
    pub(super) parent: Option<Arc<Directory>>,
    pub(super) name: CString,
    /// As its entry says, for the order in which to read.
    pub(super) inode: u64,
    /// Where it is on the way to a mount point.
    pub(super) place: Option<Place>,
    pub(super) side: Side,
    /// How many levels below it are listed.
    pub(super) levels: u32,
}

/// Of a name: the directory it is in, on which side that is, and how many levels below it are listed.
#[derive(Clone, Copy)]
pub(super) struct Location {
    pub(super) directory: Id,
    pub(super) side: Side,
    pub(super) levels: u32,
}

/// A directory that is being read, or that is needed to open what is below it.
pub(super) struct Directory {
    pub(super) id: Id,
    pub(super) position: Position,
    identity: (Dev, u64),
    /// `None` while it is closed.
    descriptor: RwLock<Option<Counted>>,
    budget: Arc<Budget>,
}

impl Directory {
    pub(super) fn new(
        position: Position,
        id: Id,
        stat: &Stat,
        descriptor: OwnedFd,
        budget: &Arc<Budget>,
    ) -> Self {
        let descriptor = RwLock::new(Some(Counted::new(descriptor, budget)));
        Self { id, position, identity: (stat.dev, stat.inode), descriptor, budget: Arc::clone(budget) }
    }

    /// Where the names in it are.
    pub(super) fn location(&self) -> Location {
        Location { directory: self.id, side: self.position.side, levels: self.position.levels }
    }

    /// The parent's number. Where the walk starts, and where it starts beneath a mount point, that is
    /// the root's.
    pub(super) fn parent_id(&self) -> Id {
        self.position.parent.as_ref().map_or(ROOT, |parent| parent.id)
    }

    pub(super) fn inode(&self) -> u64 {
        self.identity.1
    }

    /// Lends the descriptor, opened again if it was closed. It stays open meanwhile.
    pub(super) fn with<T>(self: &Arc<Self>, lend: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<T, Errno> {
        if let Some(descriptor) = &*self.read() {
            return Ok(lend(descriptor.fd.as_fd()));
        }
        let reopened = Counted::new(self.reopen()?, &self.budget);
        // Lent before it is kept: where hardly any may stay open it is closed again at once.
        let result = lend(reopened.fd.as_fd());
        self.write().get_or_insert(reopened);
        self.budget.keep(self);
        Ok(result)
    }

    /// Goes down from the nearest ancestor that is open, and makes sure that it came to the same
    /// directory: names may have moved meanwhile. `O_PATH` is enough to look names up.
    fn reopen(&self) -> Result<OwnedFd, Errno> {
        // A name that leads nowhere any more does not mean that the directory has gone.
        self.go_down().map_err(|errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => Errno::ESTALE,
            other => other,
        })
    }

    fn go_down(&self) -> Result<OwnedFd, Errno> {
        let mut names = vec![self.position.name.as_bytes()];
        let mut ancestor = self.position.parent.as_ref().ok_or(Errno::ESTALE)?;
        while ancestor.read().is_none() {
            names.push(ancestor.position.name.as_bytes());
            ancestor = ancestor.position.parent.as_ref().ok_or(Errno::ESTALE)?;
        }
        names.reverse();
        let reached = ancestor.with(|start| descend(start, &names))??;
        let stat = statx_fd(reached.as_fd())?;
        if (stat.dev, stat.inode) == self.identity { Ok(reached) } else { Err(Errno::ESTALE) }
    }

    /// Closes the descriptor unless somebody uses it right now.
    fn close(&self) {
        if let Ok(mut descriptor) = self.descriptor.try_write() {
            descriptor.take();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Counted>> {
        self.descriptor.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Counted>> {
        self.descriptor.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ancestors are released one by one: a chain of a hundred thousand would overflow the stack.
impl Drop for Directory {
    fn drop(&mut self) {
        let mut next = self.position.parent.take();
        while let Some(mut directory) = next.and_then(Arc::into_inner) {
            next = directory.position.parent.take();
        }
    }
}

fn descend(start: BorrowedFd<'_>, names: &[&[u8]]) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut at: Option<OwnedFd> = None;
    for piece in pieces(names) {
        let base = at.as_ref().map_or(start, |at| at.as_fd());
        let next = openat(base, OsStr::from_bytes(&piece), flags, Mode::empty())?;
        at = Some(next);
    }
    at.ok_or(Errno::ESTALE)
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

/// How many directories may stay open, and which can be closed.
pub(super) struct Budget {
    open: AtomicUsize,
    limit: usize,
    /// Those that wait for what is below them, the ones nearest the root first. The root itself
    /// is not among them.
    kept: Mutex<VecDeque<Weak<Directory>>>,
}

/// An open descriptor that the budget knows of.
struct Counted {
    fd: OwnedFd,
    budget: Arc<Budget>,
}

impl Counted {
    fn new(fd: OwnedFd, budget: &Arc<Budget>) -> Self {
        budget.open.fetch_add(1, Ordering::Relaxed);
        Self { fd, budget: Arc::clone(budget) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.budget.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), limit, kept: Mutex::new(VecDeque::new()) })
    }

    /// Enlists a directory that others wait for, and closes others while too many are open.
    pub(super) fn keep(&self, directory: &Arc<Directory>) {
        if directory.position.parent.is_none() {
            return;
        }
        let mut kept = self.kept();
        if kept.len() == kept.capacity() {
            // Most of them have been released long since.
            kept.retain(|other| other.strong_count() > 0);
        }
        kept.push_back(Arc::downgrade(directory));
        self.close_while(kept, |open| open > self.limit);
    }

    /// Closes all that can be closed: the process has run out of descriptors.
    pub(super) fn close_all(&self) {
        self.close_while(self.kept(), |_| true);
    }

    fn close_while(
        &self,
        mut kept: MutexGuard<'_, VecDeque<Weak<Directory>>>,
        needed: impl Fn(usize) -> bool,
    ) {
        // Released only after the lock: the last reference to a directory may be among them.
        let mut closed = Vec::new();
        while needed(self.open.load(Ordering::Relaxed)) {
            let Some(oldest) = kept.pop_front() else { break };
            if let Some(directory) = oldest.upgrade() {
                directory.close();
                closed.push(directory);
            }
        }
        drop(kept);
        drop(closed);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Weak<Directory>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ways_come_in_pieces_shorter_than_path_max() {
        let name = [b'a'; 255];
        let names = vec![name.as_slice(); 100];
        let pieces = pieces(&names);
        assert!(pieces.iter().all(|piece| piece.len() < 4096));
        assert_eq!(pieces.join(&b'/'), names.join(&b'/'));
    }
}
