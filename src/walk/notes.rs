// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a worker has found and what it is at. Others can take it over: it is all that is left of a worker that
//! does not return from a system call.

use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::queue::Queue;
use super::worker::Work;
use crate::model::skips::Kind;
use crate::model::usage::{Id, Records};

/// Something that could not be looked at: a directory, or a name in it.
pub(super) struct Skipped {
    pub(super) kind: Kind,
    pub(super) directory: Id,
    pub(super) name: Option<OsString>,
    pub(super) errno: Option<Errno>,
    /// The number that the directory has beside the name.
    pub(super) inode: Option<u64>,
}

impl Skipped {
    fn new(kind: Kind, directory: Id, name: Option<&[u8]>, errno: Option<Errno>) -> Self {
        let name = name.map(|name| OsString::from_vec(name.to_vec()));
        Self { kind, directory, name, errno, inode: None }
    }
}

/// A worker's notes.
pub(super) struct Notes {
    page: Mutex<Page>,
    /// Counts what it has done, so that whoever looks can see that it goes on.
    beats: AtomicU32,
    /// Set when the notes were taken over: then the worker has nothing left to do.
    is_left_behind: AtomicBool,
}

struct Page {
    records: Records,
    skips: Vec<Skipped>,
    stack: Vec<Work>,
    at: At,
}

/// What a worker is doing.
enum At {
    /// It waits for work.
    Nothing,
    /// It opens that name in a directory, or reads the directory if the name is empty.
    Directory { id: Id, name: Vec<u8> },
}

/// What a worker leaves behind.
pub(super) struct Left {
    pub(super) records: Records,
    pub(super) skips: Vec<Skipped>,
    pub(super) stack: Vec<Work>,
}

impl Notes {
    /// None yet; of each side that is listed the `names` largest files will be kept.
    pub(super) fn new(names: usize) -> Self {
        let page =
            Page { records: Records::new(names), skips: Vec::new(), stack: Vec::new(), at: At::Nothing };
        Self { page: Mutex::new(page), beats: AtomicU32::new(0), is_left_behind: AtomicBool::new(false) }
    }

    /// Takes the next piece of work, if there is one.
    pub(super) fn next(&self) -> Option<Work> {
        let mut page = self.page();
        let work = page.stack.pop();
        match &work {
            Some(work) => page.at(work.directory(), work.name()),
            None => page.at = At::Nothing,
        }
        work
    }

    /// Adds pieces of work, of which the last is done first.
    pub(super) fn push(&self, work: &mut Vec<Work>) {
        self.page().stack.append(work);
    }

    /// Gives a share of the work to workers that have none.
    pub(super) fn share(&self, queue: &Queue<Work>) {
        let mut page = self.page();
        if page.stack.len() > 1 {
            queue.share(&mut page.stack);
        }
    }

    /// Notes what was found.
    pub(super) fn record<T>(&self, note: impl FnOnce(&mut Records) -> T) -> T {
        note(&mut self.page().records)
    }

    /// The same, of a directory that is about to be read.
    pub(super) fn begin<T>(&self, id: Id, note: impl FnOnce(&mut Records) -> T) -> T {
        let mut page = self.page();
        page.at(id, b"");
        note(&mut page.records)
    }

    /// Notes what could not be looked at.
    pub(super) fn skip(&self, kind: Kind, directory: Id, name: Option<&CStr>, errno: Option<Errno>) {
        self.page().skips.push(Skipped::new(kind, directory, name.map(CStr::to_bytes), errno));
    }

    /// Notes the inode of what was skipped last.
    pub(super) fn skipped_inode(&self, inode: u64) {
        if let Some(skipped) = self.page().skips.last_mut() {
            skipped.inode = Some(inode);
        }
    }

    /// The worker has returned from a system call. Nobody else counts.
    pub(super) fn beat(&self) {
        self.beats.store(self.beats.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Changes while the worker goes on.
    pub(super) fn beats(&self) -> u32 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Whether the worker has been given up.
    pub(super) fn is_left_behind(&self) -> bool {
        self.is_left_behind.load(Ordering::Relaxed)
    }

    /// Takes over from a worker that does not go on, unless it has just run out of work. What it is at is one more
    /// thing that could not be looked at.
    pub(super) fn leave_behind(&self) -> Option<Left> {
        let mut page = self.page();
        let At::Directory { id, name } = std::mem::replace(&mut page.at, At::Nothing) else { return None };
        self.is_left_behind.store(true, Ordering::Relaxed);
        let name = Some(name.as_slice()).filter(|name| !name.is_empty());
        page.skips.push(Skipped::new(Kind::Directory, id, name, Some(Errno::ETIMEDOUT)));
        Some(page.take())
    }

    /// All that a worker has left that is done.
    pub(super) fn take(&self) -> Left {
        self.page().take()
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page {
    fn at(&mut self, directory: Id, new: &[u8]) {
        match &mut self.at {
            At::Directory { id, name } => {
                *id = directory;
                name.clear();
                name.extend_from_slice(new);
            }
            At::Nothing => self.at = At::Directory { id: directory, name: new.to_vec() },
        }
    }

    fn take(&mut self) -> Left {
        Left {
            records: std::mem::take(&mut self.records),
            skips: std::mem::take(&mut self.skips),
            stack: std::mem::take(&mut self.stack),
        }
    }
}
