// SPDX-License-Identifier: MIT OR Apache-2.0

//! How many directories stay open: as many as the limit on open files allows. When it is reached, those
//! nearest the root are closed.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::directory::Directory;

/// How many directories may stay open, and which can be closed.
pub(super) struct Budget {
    open: AtomicUsize,
    limit: usize,
    /// Those that wait for what is below them, the ones nearest the root first. The root itself
    /// is not among them.
    kept: Mutex<VecDeque<Weak<Directory>>>,
}

/// An open descriptor that the budget knows of.
pub(super) struct Counted {
    fd: OwnedFd,
    budget: Arc<Budget>,
}

impl Counted {
    pub(super) fn new(fd: OwnedFd, budget: &Arc<Budget>) -> Self {
        budget.open.fetch_add(1, Ordering::Relaxed);
        Self { fd, budget: Arc::clone(budget) }
    }
}

impl AsFd for Counted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
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
        let (mut closed, mut in_use) = (Vec::new(), Vec::new());
        while needed(self.open.load(Ordering::Relaxed)) {
            let Some(oldest) = kept.pop_front() else { break };
            if let Some(directory) = oldest.upgrade() {
                if directory.close() {
                    closed.push(directory);
                } else {
                    in_use.push(oldest);
                }
            }
        }
        kept.extend(in_use);
        drop(kept);
        drop(closed);
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Weak<Directory>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
