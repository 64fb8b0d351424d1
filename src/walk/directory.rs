// SPDX-License-Identifier: MIT OR Apache-2.0

//! Open directories. Those that had to be closed are opened again when they are needed: by the names that led
//! to them, or up from what was read last. So any depth can be walked, far beyond `PATH_MAX`.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nix::errno::Errno;

use super::budget::{Budget, Counted};
use super::covers::Place;
use super::open::Opener;
use crate::model::usage::{Id, ROOT, Side};
use crate::sys::Dev;
use crate::sys::stat::{Stat, statx_fd};

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
    /// How far it is below where the walk started.
    depth: usize,
    identity: (Dev, u64),
    /// `None` while it is closed.
    descriptor: RwLock<Option<Counted>>,
    budget: Arc<Budget>,
}

/// The ways to a directory that was closed.
#[derive(Clone, Copy)]
pub(super) struct Ways<'a> {
    pub(super) opener: Opener,
    /// What the worker has read last, which is open: mostly it is below what is needed next.
    pub(super) last: Option<&'a Arc<Directory>>,
    /// The root of the walk on a private mount, where there is one: nothing is mounted there.
    pub(super) clone: Option<BorrowedFd<'a>>,
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
        let depth = position.parent.as_ref().map_or(0, |parent| parent.depth + 1);
        Self { id, position, depth, identity: (stat.dev, stat.inode), descriptor, budget: Arc::clone(budget) }
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

    /// Lends the descriptor, opened again if it was closed. It stays open meanwhile.
    pub(super) fn with<T>(
        self: &Arc<Self>,
        ways: Ways<'_>,
        lend: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> Result<T, Errno> {
        if let Some(descriptor) = &*self.read() {
            return Ok(lend(descriptor.as_fd()));
        }
        let reopened = Counted::new(self.reopen(ways)?, &self.budget);
        // Lent before it is kept: where hardly any may stay open it is closed again at once.
        let result = lend(reopened.as_fd());
        self.write().get_or_insert(reopened);
        self.budget.keep(self);
        Ok(result)
    }

    /// The same directory on the private mount, where nothing is mounted on what is in it.
    pub(super) fn beneath(&self, ways: Ways<'_>) -> Result<OwnedFd, Errno> {
        let clone = ways.clone.filter(|_| self.position.side == Side::Visible).ok_or(Errno::EPERM)?;
        match self.way_from(|_| false) {
            Some((_, names)) => self.check(ways.opener.down(clone, &names)),
            None => self.check(ways.opener.down(clone, &[b"."])),
        }
    }

    /// Goes up from what was read last, if that is below: so a walk back through a deep tree takes as many steps
    /// as the walk down. Else down from the nearest ancestor that is open.
    fn reopen(&self, ways: Ways<'_>) -> Result<OwnedFd, Errno> {
        let below = ways.last.and_then(|last| Some((last.read(), last.levels_below(self)?)));
        if let Some((Some(last), levels)) = below.as_ref().map(|(last, levels)| (last.as_ref(), levels))
            && let Ok(reached) = self.check(ways.opener.up(last.as_fd(), *levels))
        {
            return Ok(reached);
        }
        drop(below);
        let (ancestor, names) = self.way_from(|ancestor| ancestor.read().is_some()).ok_or(Errno::ESTALE)?;
        match self.check(ancestor.with(ways, |start| ways.opener.down(start, &names)).flatten()) {
            Err(Errno::EXDEV) => self.beneath(ways),
            reached => reached,
        }
    }

    /// The names that lead here from the nearest ancestor for which `is_start` holds: from where the walk
    /// started, if it holds for none. `None` where the walk started here.
    fn way_from(&self, is_start: impl Fn(&Self) -> bool) -> Option<(&Arc<Self>, Vec<&[u8]>)> {
        let mut names = vec![self.position.name.as_bytes()];
        let mut ancestor = self.position.parent.as_ref()?;
        while !is_start(ancestor) {
            let Some(parent) = &ancestor.position.parent else { break };
            names.push(ancestor.position.name.as_bytes());
            ancestor = parent;
        }
        names.reverse();
        Some((ancestor, names))
    }

    /// How many levels it is below `ancestor`, if that is one.
    fn levels_below(&self, ancestor: &Self) -> Option<usize> {
        let levels = self.depth.checked_sub(ancestor.depth)?;
        let mut at = self;
        for _ in 0..levels {
            at = at.position.parent.as_ref()?;
        }
        std::ptr::eq(at, ancestor).then_some(levels)
    }

    /// Makes sure that `reached` is this very directory: names may have moved meanwhile.
    fn check(&self, reached: Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
        let reached = reached.map_err(|errno| match errno {
            // A name that leads nowhere any more does not mean that the directory has gone.
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => Errno::ESTALE,
            other => other,
        })?;
        let stat = statx_fd(reached.as_fd())?;
        if (stat.dev, stat.inode) == self.identity { Ok(reached) } else { Err(Errno::ESTALE) }
    }

    /// Closes the descriptor unless somebody uses it right now.
    pub(super) fn close(&self) -> bool {
        self.descriptor.try_write().map(|mut descriptor| drop(descriptor.take())).is_ok()
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
