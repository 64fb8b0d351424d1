// SPDX-License-Identifier: MIT OR Apache-2.0

//! One thread of the walk: opens directories, reads their entries, looks at what is
//! no directory.

use std::cmp::Reverse;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::directory::{Directory, Location, Position, Ways};
use super::notes::Notes;
use super::{Shared, Territory, covers};
use crate::model::skips::Kind;
use crate::model::usage::{self as census, Id, Link, Side, Tally};
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

    /// In which directory it is.
    pub(super) fn directory(&self) -> Id {
        match self {
            Self::Directory(position) => position.parent.as_ref().map_or(census::ROOT, |parent| parent.id),
            Self::Entries { directory, .. } => directory.id,
            Self::Root(_) | Self::Covered(_) | Self::Outside(_) => census::ROOT,
        }
    }

    /// And by what name; none where that is not one name.
    pub(super) fn name(&self) -> &[u8] {
        match self {
            Self::Directory(position) => position.name.to_bytes(),
            Self::Root(_) | Self::Covered(_) | Self::Outside(_) | Self::Entries { .. } => b"",
        }
    }
}

pub(super) struct Worker<'a> {
    shared: &'a Shared,
    notes: &'a Notes,
    /// Directories that were found in what is being read.
    found: Vec<Work>,
    /// What was read last. It stays open: what comes next is mostly in it or not far above.
    last: Option<Arc<Directory>>,
    buffer: Vec<u8>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared, notes: &'a Notes) -> Self {
        Self { shared, notes, found: Vec::new(), last: None, buffer: vec![0; BUFFER] }
    }

    /// Works until all workers are done, or it has been left behind. When the run is cancelled, work is thrown
    /// away.
    pub(super) fn run(mut self) {
        loop {
            while let Some(work) = self.notes.next() {
                if self.shared.monitor.is_cancelled() {
                    continue;
                }
                self.work(work);
                self.notes.beat();
                if self.shared.queue.is_hungry() {
                    self.notes.share(&self.shared.queue);
                }
            }
            if self.notes.is_left_behind() || !self.shared.queue.take(&mut self.found) {
                return;
            }
            self.notes.push(&mut self.found);
        }
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Root(descriptor) => self.open_root(&descriptor),
            Work::Covered(mount) => self.open_covered(mount),
            Work::Outside(descriptor) => self.open_outside(&descriptor),
            Work::Directory(position) => self.open(position),
            Work::Entries { directory, entries } => {
                let read = self.with(&directory, |worker, fd| worker.entries(&directory, fd, &entries));
                match read {
                    Ok(tally) => {
                        self.shared.monitor.advance(tally.bytes);
                        self.notes.record(|records| records.addition(directory.id, tally));
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
        match self.shared.opener.directory(path.as_fd(), c".") {
            Ok(descriptor) => self.read(position, census::ROOT, &root, descriptor),
            Err(errno) => {
                let mut own = Tally::default();
                own.count(root.allocated);
                self.directory(census::ROOT, census::ROOT, root.inode, c"", side, own);
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
        let shared = self.shared;
        let (Ok(clone), Some(name)) = (&shared.clone, shared.covers.path_of(mount)) else { return };
        let side = Side::Hidden(mount);
        let place = self.shared.covers.place_of(mount);
        let levels = self.shared.listing.levels(side);
        let looked = match self.shared.opener.directory(clone.as_fd(), name) {
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
                self.directory(id, census::ROOT, stat.inode, name, side, own);
            }
            Err(Errno::ENOENT) => {}
            Err(errno) => self.skip(Kind::Directory, census::ROOT, Some(name), errno),
        }
    }

    /// Starts at the root of the whole filesystem.
    fn open_outside(&mut self, whole: &OwnedFd) {
        let (id, side) = (self.shared.next_id(), Side::Outside);
        let opened = self.shared.opener.directory(whole.as_fd(), c".");
        match opened.and_then(|descriptor| Ok((statx_fd(descriptor.as_fd())?, descriptor))) {
            Ok((stat, descriptor)) => {
                let (levels, inode) = (self.shared.listing.levels(side), stat.inode);
                let position = Position { parent: None, name: c"".into(), inode, place: None, side, levels };
                self.read(position, id, &stat, descriptor);
            }
            Err(errno) => {
                self.directory(id, census::ROOT, 0, c"", side, Tally::default());
                self.skip(Kind::Directory, id, None, errno);
            }
        }
    }

    fn open(&mut self, position: Position) {
        let Some(parent) = position.parent.clone() else { return };
        let (name, side) = (&position.name, position.side);
        let mut looked = self.open_in(&parent, name, side);
        if matches!(looked, Err(Errno::EMFILE | Errno::ENFILE)) {
            self.last = None;
            self.shared.budget.close_all();
            looked = self.open_in(&parent, name, side);
        }
        if looked.as_ref().err() == Some(&Errno::EXDEV) {
            looked = match self.beneath(&parent) {
                Ok(parent) => self.shared.opener.directory(parent.as_fd(), name).and_then(look),
                Err(errno) => return self.skip(Kind::Mount, parent.id, Some(name), errno),
            };
        }
        match looked.map(|(descriptor, stat)| (self.shared.boundary.territory(side, &stat), stat, descriptor))
        {
            Ok((Territory::Ours, stat, descriptor)) => {
                self.read(position, self.shared.next_id(), &stat, descriptor);
            }
            Ok((Territory::Subvolume, ..)) => self.skip(Kind::Subvolume, parent.id, Some(name), None),
            Ok((Territory::Shown | Territory::OtherMount, ..)) | Err(Errno::ENOENT) => {}
            Err(errno) => self.unopened(&parent, &position, errno),
        }
    }

    /// Opens a directory and looks at it. `EXDEV` where something has been mounted on it since mountinfo was read.
    fn open_in(
        &mut self,
        parent: &Arc<Directory>,
        name: &CStr,
        side: Side,
    ) -> Result<(OwnedFd, Stat), Errno> {
        let (opener, boundary) = (self.shared.opener, self.shared.boundary);
        let looked = self.with(parent, |_, fd| opener.directory(fd, name).and_then(look)).flatten()?;
        let is_other = boundary.territory(side, &looked.1) == Territory::OtherMount;
        if is_other { Err(Errno::EXDEV) } else { Ok(looked) }
    }

    /// A directory in which a mount has come, on the private mount, where it is as it was. The walk counts what
    /// was visible when mountinfo was read.
    fn beneath(&mut self, directory: &Arc<Directory>) -> Result<OwnedFd, Errno> {
        let shared = self.shared;
        shared.clone.as_ref().map_err(|errno| *errno)?;
        directory.beneath(self.ways(None))
    }

    /// A directory that cannot be opened still takes up its own blocks. What has become something
    /// else meanwhile is counted as that.
    fn unopened(&mut self, parent: &Arc<Directory>, position: &Position, errno: Errno) {
        let stat = self.with(parent, |_, fd| statx_at(fd, &position.name, Links::Stay)).flatten();
        let mut tally = Tally::default();
        match stat.map(|stat| (self.shared.boundary.territory(position.side, &stat), stat)) {
            Err(Errno::ENOENT) | Ok((Territory::Shown, _)) => return,
            Ok((Territory::Ours, stat)) if stat.is_directory() => {
                tally.count(stat.allocated);
                let (id, Position { name, side, .. }) = (self.shared.next_id(), position);
                self.directory(id, parent.id, stat.inode, name, *side, tally);
            }
            Ok((Territory::Ours, stat)) => {
                self.count(parent.location(), &position.name, &stat, &mut tally);
                return self.notes.record(|records| records.addition(parent.id, tally));
            }
            Ok(_) | Err(_) => {}
        }
        self.skip(Kind::Directory, parent.id, Some(&position.name), errno);
        self.skipped_inode(position.inode);
    }

    /// Reads all entries of an open directory.
    fn read(&mut self, position: Position, id: Id, stat: &Stat, descriptor: OwnedFd) {
        let directory = Arc::new(Directory::new(position, id, stat, descriptor, &self.shared.budget));
        let mut own = Tally::default();
        own.count(stat.allocated);
        let place = self.notes.begin(id, |records| {
            let Position { name, side, .. } = &directory.position;
            if *side == Side::Visible {
                records.length(id, stat.inode, stat.size);
            }
            let parent = directory.parent_id();
            records.directory(id, parent, stat.inode, name.to_bytes(), *side, Tally::default())
        });
        let read = self.with(&directory, |worker, fd| worker.entries_of(&directory, fd, &mut own)).flatten();
        if let Err(errno) = read
            && errno != Errno::ENOENT
        {
            self.skip(Kind::Directory, id, None, errno);
        }
        self.shared.monitor.advance(own.bytes);
        self.notes.record(|records| records.holds(place, own));
        if let Some(before) = self.last.replace(directory)
            && Arc::strong_count(&before) > 1
        {
            self.shared.budget.keep(&before);
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
            self.notes.beat();
            if used? == 0 || self.shared.monitor.is_cancelled() || self.notes.is_left_behind() {
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
        for entry in getdents::entries(entries) {
            self.notes.beat();
            let place = self.place(directory, entry.name);
            if place.is_some_and(|place| self.shared.covers.is_mount(place)) {
                // Not even touched: behind it may be a server that does not answer. What it hides
                // is work of its own.
                continue;
            }
            if entry.kind == libc::DT_DIR && entry.is_whole {
                self.push(directory, entry, place);
                continue;
            }
            match statx_at(fd, entry.name, Links::Stay) {
                Ok(stat) if stat.is_directory() => self.push(directory, entry, place),
                Ok(stat) if self.is_other_mount(directory, &stat) => {
                    self.count_beneath(directory, entry.name, &mut tally);
                }
                Ok(stat) => self.count(directory.location(), entry.name, &stat, &mut tally),
                Err(Errno::ENOENT) if entry.is_whole => {}
                // Not gone, but never there.
                Err(Errno::ENOENT) => self.skip(Kind::File, directory.id, Some(entry.name), Errno::EUCLEAN),
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
        self.found.sort_unstable_by_key(|work| Reverse(work.inode()));
        self.notes.push(&mut self.found);
        tally
    }

    /// Counts what is no directory: at once, or at the end if it has several names.
    fn count(&mut self, at: Location, name: &CStr, stat: &Stat, tally: &mut Tally) {
        if self.shared.boundary.territory(at.side, stat) != Territory::Ours {
            return;
        }
        let (Location { directory, side, levels }, Stat { dev, inode, allocated, .. }) = (at, *stat);
        if stat.links > 1 {
            let dev = dev.into();
            self.notes.record(|records| {
                let name = if levels > 0 { records.listed_name(name.to_bytes()) } else { None };
                records.link(Link { dev, inode, allocated, directory, name });
            });
            return;
        }
        tally.count(allocated);
        if levels > 0 {
            self.notes.record(|records| records.file(side, directory, inode, allocated, name.to_bytes()));
        }
    }

    fn is_other_mount(&self, directory: &Directory, stat: &Stat) -> bool {
        self.shared.boundary.territory(directory.position.side, stat) == Territory::OtherMount
    }

    /// Counts a file on which something has been mounted since mountinfo was read.
    fn count_beneath(&mut self, directory: &Arc<Directory>, name: &CStr, tally: &mut Tally) {
        let beneath = self.beneath(directory).and_then(|fd| statx_at(fd.as_fd(), name, Links::Stay));
        match beneath {
            Ok(stat) => self.count(directory.location(), name, &stat, tally),
            Err(Errno::ENOENT) => {}
            Err(errno) => self.skip(Kind::Mount, directory.id, Some(name), errno),
        }
    }

    fn push(&mut self, parent: &Arc<Directory>, entry: getdents::Entry<'_>, place: Option<covers::Place>) {
        let Location { side, levels, .. } = parent.location();
        let levels = levels.saturating_sub(1);
        let (parent, name, inode) = (Some(Arc::clone(parent)), entry.name.into(), entry.inode);
        self.found.push(Work::Directory(Position { parent, name, inode, place, side, levels }));
    }

    /// Where a name is on the way to a mount point.
    fn place(&self, directory: &Directory, name: &CStr) -> Option<covers::Place> {
        directory.position.place.and_then(|place| self.shared.covers.child(place, name.to_bytes()))
    }

    /// Lends the descriptor of a directory, opened again if it was closed.
    fn with<T>(
        &mut self,
        directory: &Arc<Directory>,
        lend: impl FnOnce(&mut Self, BorrowedFd<'_>) -> T,
    ) -> Result<T, Errno> {
        let last = self.last.take();
        let result = directory.with(self.ways(last.as_ref()), |fd| lend(self, fd));
        self.last = last;
        result
    }

    fn ways<'w>(&self, last: Option<&'w Arc<Directory>>) -> Ways<'w>
    where
        'a: 'w,
    {
        let clone = self.shared.clone.as_ref().ok().map(AsFd::as_fd);
        Ways { opener: self.shared.opener, last, clone }
    }

    fn directory(&self, id: Id, parent: Id, inode: u64, name: &CStr, side: Side, own: Tally) {
        self.notes.record(|records| records.directory(id, parent, inode, name.to_bytes(), side, own));
    }

    fn skip(&self, kind: Kind, directory: Id, name: Option<&CStr>, errno: impl Into<Option<Errno>>) {
        self.notes.skip(kind, directory, name, errno.into());
    }

    /// The inode of what was skipped last.
    fn skipped_inode(&self, inode: u64) {
        self.notes.skipped_inode(inode);
    }
}

fn look(descriptor: OwnedFd) -> Result<(OwnedFd, Stat), Errno> {
    let stat = statx_fd(descriptor.as_fd())?;
    Ok((descriptor, stat))
}
