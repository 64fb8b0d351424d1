//! One thread of the walk: opens directories, reads their entries, looks at what is
//! no directory.

use std::cmp::Reverse;
use std::ffi::{CStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use nix::errno::Errno;

use super::directory::{Directory, Location, Position, open_directory};
use super::{Shared, Territory, covers};
use crate::model::skips::Kind;
use crate::model::usage::{self as census, Id, Link, Records, Side, Tally};
use crate::sys::getdents;
use crate::sys::stat::{Links, Stat, statx_at, statx_fd};

/// Large enough that a directory with very many entries is read in few calls, small enough that
/// its buffers can be shared out evenly.
const BUFFER: usize = 64 * 1024;
/// A buffer with less room than this left was filled by a directory with more to come: the
/// longest record, getdents64(2).
const LONGEST_RECORD: usize = 280;

/// Something to do.
pub(super) enum Work {
    /// The directory to start from.
    Root(OwnedFd),
    /// What a mount point hides, by its number.
    Covered(usize),
    /// The root of the whole filesystem, for what lies outside of the mount.
    Outside(OwnedFd),
    /// A directory to open and read.
    Directory(Position),
    /// Entries that another thread has read.
    Entries { directory: Arc<Directory>, entries: Box<[u8]> },
}

impl Work {
    fn inode(&self) -> u64 {
        match self {
            Self::Directory(position) => position.inode,
            Self::Root(_) | Self::Covered(_) | Self::Outside(_) | Self::Entries { .. } => 0,
        }
    }
}

/// Something that could not be looked at: a directory, or a name in it.
pub(super) struct Skipped {
    pub(super) kind: Kind,
    pub(super) directory: Id,
    pub(super) name: Option<OsString>,
    pub(super) errno: Option<Errno>,
    /// The number that the directory has beside the name.
    pub(super) inode: Option<u64>,
}

/// What a worker leaves behind.
pub(super) struct Finished {
    pub(super) records: Records,
    pub(super) skips: Vec<Skipped>,
}

pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    stack: Vec<Work>,
    buffer: Vec<u8>,
    records: Records,
    skips: Vec<Skipped>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared<'a>) -> Self {
        let (records, skips) = (Records::new(shared.names), Vec::new());
        Self { shared, stack: Vec::new(), buffer: vec![0; BUFFER], records, skips }
    }

    /// Works until all workers are done. When the run is cancelled, work is thrown away.
    pub(super) fn run(mut self) -> Finished {
        while self.shared.queue.take(&mut self.stack) {
            while let Some(work) = self.stack.pop() {
                if self.shared.monitor.is_cancelled() {
                    continue;
                }
                self.work(work);
                if self.stack.len() > 1 && self.shared.queue.is_hungry() {
                    self.shared.queue.share(&mut self.stack);
                }
            }
        }
        Finished { records: self.records, skips: self.skips }
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Root(descriptor) => self.open_root(&descriptor),
            Work::Covered(mount) => self.open_covered(mount),
            Work::Outside(descriptor) => self.open_outside(&descriptor),
            Work::Directory(position) => self.open(position),
            Work::Entries { directory, entries } => {
                let read = directory.with(|fd| self.entries(&directory, fd, &entries));
                match read {
                    Ok(tally) => {
                        self.shared.monitor.advance(tally.bytes);
                        self.records.addition(directory.id, tally);
                    }
                    Err(errno) => self.skip(Kind::Directory, directory.id, None, errno),
                }
            }
        }
    }

    fn open_root(&mut self, path: &OwnedFd) {
        let place = Some(covers::ROOT);
        let side = Side::Visible;
        let position = Position { parent: None, name: c"".into(), inode: 0, place, side, levels: 0 };
        let root = self.shared.boundary.root;
        match open_directory(path.as_fd(), c".") {
            Ok(descriptor) => self.read(position, census::ROOT, &root, descriptor),
            Err(errno) => {
                let mut own = Tally::default();
                own.count(root.allocated);
                self.records.directory(census::ROOT, census::ROOT, root.inode, b"", Side::Visible, own);
                if !root.is_directory() {
                    // A bind mount of a single file, and nothing else to start from.
                    return;
                }
                self.skip(Kind::Directory, census::ROOT, None, errno);
            }
        }
    }

    /// Starts beneath a mount point, on the clone, where nothing is mounted.
    fn open_covered(&mut self, mount: usize) {
        let Ok(Some(clone)) = &self.shared.beneath else { return };
        let Some(name) = self.shared.covers.path_of(mount) else { return };
        let side = Side::Hidden(mount);
        let place = self.shared.covers.place_of(mount);
        let levels = self.shared.listing.levels(side);
        let looked = match open_directory(clone.as_fd(), name) {
            Ok(descriptor) => statx_fd(descriptor.as_fd()).map(|stat| (Some(descriptor), stat)),
            // A file with a mount over it.
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                statx_at(clone.as_fd(), name, Links::Stay).map(|stat| (None, stat))
            }
            Err(errno) => Err(errno),
        };
        match looked {
            Ok((_, stat)) if self.shared.boundary.territory(side, &stat) != Territory::Ours => {}
            Ok((Some(descriptor), stat)) => {
                let (name, inode) = (name.into(), stat.inode);
                let position = Position { parent: None, name, inode, place, side, levels };
                self.read(position, self.shared.next_id(), &stat, descriptor);
            }
            Ok((None, stat)) => {
                let (id, mut own) = (self.shared.next_id(), Tally::default());
                self.count(Location { directory: id, side, levels: 0 }, name, &stat, &mut own);
                self.records.directory(id, census::ROOT, stat.inode, name.to_bytes(), side, own);
            }
            Err(Errno::ENOENT) => {}
            Err(errno) => self.skip(Kind::Directory, census::ROOT, Some(name), errno),
        }
    }

    /// Starts at the root of the whole filesystem.
    fn open_outside(&mut self, whole: &OwnedFd) {
        let (id, side) = (self.shared.next_id(), Side::Outside);
        let opened = open_directory(whole.as_fd(), c".");
        match opened.and_then(|descriptor| Ok((statx_fd(descriptor.as_fd())?, descriptor))) {
            Ok((stat, descriptor)) => {
                let (levels, inode) = (self.shared.listing.levels(side), stat.inode);
                let position = Position { parent: None, name: c"".into(), inode, place: None, side, levels };
                self.read(position, id, &stat, descriptor);
            }
            Err(errno) => {
                self.records.directory(id, census::ROOT, 0, b"", side, Tally::default());
                self.skip(Kind::Directory, id, None, errno);
            }
        }
    }

    fn open(&mut self, position: Position) {
        let Some(parent) = position.parent.clone() else { return };
        let open = || parent.with(|fd| open_directory(fd, &position.name)).flatten();
        let opened = match open() {
            Err(Errno::EMFILE | Errno::ENFILE) => {
                self.shared.budget.close_all();
                open()
            }
            opened => opened,
        };
        match opened {
            Ok(descriptor) => {
                let stat = statx_fd(descriptor.as_fd());
                match stat.map(|stat| (self.shared.boundary.territory(position.side, &stat), stat)) {
                    Ok((Territory::Ours, stat)) => {
                        self.read(position, self.shared.next_id(), &stat, descriptor);
                    }
                    Ok((Territory::Shown | Territory::OtherMount, _)) => {}
                    Ok((Territory::Subvolume, _)) => {
                        self.skip(Kind::Subvolume, parent.id, Some(&position.name), None);
                    }
                    Err(errno) => {
                        self.skip(Kind::Directory, parent.id, Some(&position.name), errno);
                        self.skipped_inode(position.inode);
                    }
                }
            }
            Err(Errno::ENOENT) => {}
            Err(errno) => self.unopened(&parent, &position, errno),
        }
    }

    /// A directory that cannot be opened still takes up its own blocks. What has become something
    /// else meanwhile is counted as that.
    fn unopened(&mut self, parent: &Arc<Directory>, position: &Position, errno: Errno) {
        let stat = parent.with(|fd| statx_at(fd, &position.name, Links::Stay)).flatten();
        let mut tally = Tally::default();
        match stat.map(|stat| (self.shared.boundary.territory(position.side, &stat), stat)) {
            Err(Errno::ENOENT) | Ok((Territory::Shown, _)) => return,
            Ok((Territory::Ours, stat)) if stat.is_directory() => {
                tally.count(stat.allocated);
                let (id, Position { name, side, .. }) = (self.shared.next_id(), position);
                self.records.directory(id, parent.id, stat.inode, name.to_bytes(), *side, tally);
            }
            Ok((Territory::Ours, stat)) => {
                self.count(parent.location(), &position.name, &stat, &mut tally);
                return self.records.addition(parent.id, tally);
            }
            Ok(_) | Err(_) => {}
        }
        self.skip(Kind::Directory, parent.id, Some(&position.name), errno);
        self.skipped_inode(position.inode);
    }

    /// Reads all entries of an open directory.
    fn read(&mut self, position: Position, id: Id, stat: &Stat, descriptor: OwnedFd) {
        if position.side == Side::Visible {
            self.records.length(id, stat.inode, stat.size);
        }
        let directory = Arc::new(Directory::new(position, id, stat, descriptor, &self.shared.budget));
        let mut own = Tally::default();
        own.count(stat.allocated);
        let read = directory.with(|fd| self.entries_of(&directory, fd, &mut own)).flatten();
        if let Err(errno) = read
            && errno != Errno::ENOENT
        {
            self.skip(Kind::Directory, id, None, errno);
        }
        self.shared.monitor.advance(own.bytes);
        let Position { name, side, .. } = &directory.position;
        self.records.directory(id, directory.parent_id(), directory.inode(), name.to_bytes(), *side, own);
        if Arc::strong_count(&directory) > 1 {
            self.shared.budget.keep(&directory);
        }
    }

    fn entries_of(
        &mut self,
        directory: &Arc<Directory>,
        fd: BorrowedFd<'_>,
        own: &mut Tally,
    ) -> Result<(), Errno> {
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            let used = getdents::read(fd, &mut buffer);
            if let Ok(used @ 1..) = used {
                let entries = &buffer[..used];
                let more_to_come = used + LONGEST_RECORD > buffer.len();
                if !(more_to_come && self.hand_on(directory, entries)) {
                    own.add(self.entries(directory, fd, entries));
                }
            }
            self.buffer = buffer;
            if used? == 0 || self.shared.monitor.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Gives entries to a thread that waits for work, if there is one.
    fn hand_on(&self, directory: &Arc<Directory>, entries: &[u8]) -> bool {
        let queue = &self.shared.queue;
        queue.is_hungry() && {
            let work = Work::Entries { directory: Arc::clone(directory), entries: entries.into() };
            queue.offer(work).is_none()
        }
    }

    /// Looks at every entry: what is no directory is counted, directories are put on the stack.
    fn entries(&mut self, directory: &Arc<Directory>, fd: BorrowedFd<'_>, entries: &[u8]) -> Tally {
        let mut tally = Tally::default();
        let before = self.stack.len();
        for entry in getdents::entries(entries) {
            let place = self.place(directory, entry.name);
            if place.is_some_and(|place| self.shared.covers.is_mount(place)) {
                // Not even touched: behind it may be a server that does not answer. What it hides
                // is work of its own.
                continue;
            }
            if entry.kind == libc::DT_DIR {
                self.push(directory, entry, place);
                continue;
            }
            match statx_at(fd, entry.name, Links::Stay) {
                Ok(stat) if stat.is_directory() => self.push(directory, entry, place),
                Ok(stat) => self.count(directory.location(), entry.name, &stat, &mut tally),
                Err(Errno::ENOENT) => {}
                Err(errno) if statx_at(fd, c".", Links::Stay).is_err() => {
                    // No right to look names up here: it is the same for all of them.
                    self.skip(Kind::Directory, directory.id, None, errno);
                    break;
                }
                Err(errno) => {
                    self.skip(Kind::File, directory.id, Some(entry.name), errno);
                    self.skipped_inode(entry.inode);
                }
            }
        }
        // The next one popped has the lowest inode number: inodes that are near each other on the
        // disk are read one after the other.
        self.stack[before..].sort_unstable_by_key(|work| Reverse(work.inode()));
        tally
    }

    /// Counts what is no directory: at once, or at the end if it has several names.
    fn count(&mut self, at: Location, name: &CStr, stat: &Stat, tally: &mut Tally) {
        if self.shared.boundary.territory(at.side, stat) != Territory::Ours {
            return;
        }
        let (Location { directory, side, levels }, Stat { dev, inode, allocated, .. }) = (at, *stat);
        if stat.links > 1 {
            let name = if levels > 0 { self.records.listed_name(name.to_bytes()) } else { None };
            self.records.link(Link { dev: dev.into(), inode, allocated, directory, name });
            return;
        }
        tally.count(allocated);
        if levels > 0 {
            self.records.file(side, directory, inode, allocated, name.to_bytes());
        }
    }

    fn push(&mut self, parent: &Arc<Directory>, entry: getdents::Entry<'_>, place: Option<covers::Place>) {
        let Location { side, levels, .. } = parent.location();
        let levels = levels.saturating_sub(1);
        let (parent, name, inode) = (Some(Arc::clone(parent)), entry.name.into(), entry.inode);
        self.stack.push(Work::Directory(Position { parent, name, inode, place, side, levels }));
    }

    /// Where a name is on the way to a mount point.
    fn place(&self, directory: &Directory, name: &CStr) -> Option<covers::Place> {
        directory.position.place.and_then(|place| self.shared.covers.child(place, name.to_bytes()))
    }

    fn skip(&mut self, kind: Kind, directory: Id, name: Option<&CStr>, errno: impl Into<Option<Errno>>) {
        let name = name.map(|name| OsString::from_vec(name.to_bytes().to_vec()));
        self.skips.push(Skipped { kind, directory, name, errno: errno.into(), inode: None });
    }

    /// The inode of what was skipped last.
    fn skipped_inode(&mut self, inode: u64) {
        if let Some(skipped) = self.skips.last_mut() {
            skipped.inode = Some(inode);
        }
    }
}
