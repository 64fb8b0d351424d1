// SPDX-License-Identifier: MIT OR Apache-2.0

//! Descriptors that have other open files inside, which no link of /proc leads to: unix sockets with
//! messages that nobody has received yet, and `io_uring` with its registered files. Looked into only where a
//! holder is missed: each costs more than a look at a descriptor.

use std::ffi::CString;
use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use rayon::prelude::*;

use super::fdinfo::{self, Registered};
use super::patience::Patience;
use super::places::Places;
use super::process::{self, Decimal, Proc, Sighting, read_link, read_record};
use super::scan::number_of;
use crate::model::deleted::{Hold, Via};
use crate::sys::peek::{FIRST_COPY, Peek};
use crate::sys::pidfd;
use crate::sys::stat::{Stat, statx_fd};
use crate::sys::thread;

/// A descriptor that may have others inside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Carrier {
    kind: Kind,
    inode: u64,
    pub(super) pid: i32,
    tid: Option<i32>,
    number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Socket,
    /// An inode without a type: `eventfd(2)`, `epoll(7)`, `io_uring(7)`, ...
    Anonymous,
}

impl Carrier {
    /// Descriptor `number` of that task, if it is one.
    pub(super) fn new(stat: &Stat, pid: i32, tid: Option<i32>, number: u32) -> Option<Self> {
        let kind = match stat.mode & libc::S_IFMT {
            libc::S_IFSOCK => Kind::Socket,
            0 => Kind::Anonymous,
            _ => return None,
        };
        Some(Self { kind, inode: stat.inode, pid, tid, number })
    }

    /// Where it is in /proc.
    pub(super) fn path(&self, proc: &Path) -> PathBuf {
        proc.join(self.below())
    }

    fn below(&self) -> String {
        format!("{}/fd/{}", self.task(), self.number)
    }

    /// Whose table it is in.
    fn task(&self) -> i32 {
        self.tid.unwrap_or(self.pid)
    }

    fn hold(&self) -> Hold {
        let number = self.number;
        let via = match self.kind {
            Kind::Socket => Via::Socket { number },
            Kind::Anonymous => Via::IoUring { number },
        };
        Hold { pid: self.pid, tid: self.tid, via }
    }
}

/// A ring with registered files of which one is deleted, or may be.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) carrier: Carrier,
    pub(super) hold: Hold,
    pub(super) files: Registered,
}

/// What was found inside.
#[derive(Debug, Default)]
pub(super) struct Inside {
    /// In the queues of sockets.
    pub(super) sightings: Vec<Sighting>,
    /// Sockets with descriptors in their queue that could not all be looked at.
    pub(super) sockets: Vec<(Carrier, Option<Errno>)>,
    pub(super) rings: Vec<Ring>,
}

/// So many are looked into by one thread in a row.
const AT_ONCE: usize = 512;

/// What the text of fdinfo says is inside.
enum Load {
    Nothing,
    Queue(usize),
    Files(Registered),
}

/// How to look inside.
pub(super) struct Look<'a> {
    pub(super) proc: Proc<'a>,
    pub(super) places: &'a Places,
    pub(super) threads: Option<NonZero<usize>>,
    /// How long to wait for sockets.
    pub(super) patience: Patience,
}

impl Look<'_> {
    /// Looks into all of `carriers`.
    pub(super) fn inside(&self, mut carriers: Vec<Carrier>) -> Inside {
        carriers.sort_unstable();
        // A socket that several processes have is looked into once.
        let same =
            |a: &Carrier, b: &Carrier| a.kind == Kind::Socket && (b.kind, b.inode) == (a.kind, a.inode);
        let mut groups: Vec<&[Carrier]> = carriers.chunk_by(same).collect();
        groups.sort_by_key(|group| group.first().map(Carrier::task));
        let pool = thread::pool(number_of(self.threads));
        let loads: Vec<Vec<Load>> = match pool {
            Ok(pool) => {
                pool.install(|| groups.par_chunks(AT_ONCE).map(|groups| self.loads(groups)).collect())
            }
            // No more threads to be had: then one after the other.
            Err(_) => vec![self.loads(&groups)],
        };
        let mut inside = Inside::default();
        for (group, load) in groups.into_iter().zip(loads.into_iter().flatten()) {
            let [carrier, ..] = group else { continue };
            match load {
                Load::Nothing => {}
                Load::Files(files) => {
                    inside.rings.push(Ring { carrier: carrier.clone(), hold: carrier.hold(), files });
                }
                Load::Queue(count) => match self.queue(group, count) {
                    Ok((sightings, whole)) => {
                        let held = |sighting: Sighting| {
                            group.iter().map(move |by| Sighting { hold: by.hold(), ..sighting.clone() })
                        };
                        inside.sightings.extend(sightings.into_iter().flat_map(held));
                        inside.sockets.extend((!whole).then(|| (carrier.clone(), None)));
                    }
                    // Closed, or received, meanwhile.
                    Err(Errno::ESRCH | Errno::EBADF | Errno::EAGAIN) => {}
                    Err(errno) => inside.sockets.push((carrier.clone(), Some(errno))),
                },
            }
        }
        inside
    }

    /// What each has inside, seen through the first in its group that has not gone meanwhile. One directory
    /// is opened for all that follow each other in a task.
    fn loads(&self, groups: &[&[Carrier]]) -> Vec<Load> {
        let mut opened: Option<(i32, OwnedFd)> = None;
        let mut load = |carrier: &Carrier| {
            if opened.as_ref().is_none_or(|(task, _)| *task != carrier.task()) {
                opened = self.open_fdinfo(carrier).map(|directory| (carrier.task(), directory)).ok();
            }
            self.load(carrier, opened.as_ref()?.1.as_fd())
        };
        groups.iter().map(|group| group.iter().find_map(&mut load).unwrap_or(Load::Nothing)).collect()
    }

    fn open_fdinfo(&self, carrier: &Carrier) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(self.proc.directory, format!("{}/fdinfo", carrier.task()).as_str(), flags, Mode::empty())
    }

    /// `None` where it has gone.
    fn load(&self, carrier: &Carrier, fdinfo: BorrowedFd<'_>) -> Option<Load> {
        let is_ring = || {
            let link = read_link(self.proc.directory, &CString::new(carrier.below()).unwrap_or_default());
            link.is_ok_and(|link| link == Path::new("anon_inode:[io_uring]"))
        };
        if carrier.kind == Kind::Anonymous && !is_ring() {
            return Some(Load::Nothing);
        }
        let text = read_record(fdinfo, Decimal::new(carrier.number).as_c_str()).ok()?;
        Some(match carrier.kind {
            Kind::Socket => match fdinfo::queued(&text) {
                0 => Load::Nothing,
                count => Load::Queue(count),
            },
            Kind::Anonymous => match fdinfo::registered(&text) {
                files if files == Registered::default() => Load::Nothing,
                files => Load::Files(files),
            },
        })
    }

    /// What counts among the `count` descriptors in the queue of the socket that a group has, and whether
    /// they all could be looked at.
    fn queue(&self, group: &[Carrier], count: usize) -> Result<(Vec<Sighting>, bool), Errno> {
        let mut result = Err(Errno::ESRCH);
        for carrier in group {
            result = self.queue_through(carrier, count);
            // Gone meanwhile: another may still have it.
            if !matches!(result, Err(Errno::ESRCH | Errno::EBADF)) {
                break;
            }
        }
        result
    }

    fn queue_through(&self, carrier: &Carrier, count: usize) -> Result<(Vec<Sighting>, bool), Errno> {
        if carrier.tid.is_some() || !self.proc.same_numbers {
            // Only a whole process can be asked for a descriptor.
            return Err(Errno::EOPNOTSUPP);
        }
        let socket = pidfd::get(pidfd::open(carrier.pid)?.as_fd(), carrier.number)?;
        if statx_fd(socket.as_fd())?.inode != carrier.inode {
            return Err(Errno::EBADF);
        }
        let peek = self.patience.spend(|timeout| Peek::at(socket.as_fd(), timeout))?;
        let copies = process::descriptors(self.proc, peek.pid(), self.places)?;
        let number = copies.numbers.iter().filter(|&&number| number >= FIRST_COPY).count();
        // Sockets in the queue may have others in theirs.
        let nested = copies.carriers.iter().filter(|inner| inner.number >= FIRST_COPY);
        let nested: Vec<&[Carrier]> = nested.map(std::slice::from_ref).collect();
        let empty = self.loads(&nested).iter().all(|load| matches!(load, Load::Nothing));
        let whole = number >= count && empty;
        Ok((copies.sightings, whole))
    }
}
