// SPDX-License-Identifier: MIT OR Apache-2.0

//! One process: its descriptors, mappings, program and directories, and those of the
//! threads that do not share them. A process that vanishes meanwhile is no error.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;
use rayon::prelude::*;

use super::in_flight::Carrier;
use super::places::{Place, Places};
use super::{Unseen, fdinfo, proc_maps};
use crate::model::deleted::{Hold, Via};
use crate::model::last_name::LastName;
use crate::sys::getdents;
use crate::sys::kcmp::{self, Resource};
use crate::sys::stat::{Links, Stat, statx_at};

/// The directory /proc.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proc<'a> {
    pub(super) directory: BorrowedFd<'a>,
    /// Whether the numbers in it are those of this process's own pid namespace. Otherwise system calls
    /// that take such a number mean other processes.
    pub(super) same_numbers: bool,
}

/// One hold of one inode.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    pub(super) place: Place,
    pub(super) stat: Stat,
    pub(super) name: LastName,
    pub(super) hold: Hold,
}

/// What reading a process came to.
#[derive(Debug)]
pub(super) enum Outcome {
    Read {
        sightings: Vec<Sighting>,
        unseen: Vec<Unseen>,
        /// Its descriptors that may have others inside.
        carriers: Vec<Carrier>,
        /// Why it could not be read whole.
        denied: Option<Errno>,
    },
    /// A kernel thread, or gone meanwhile.
    Nothing,
}

/// Reads process `pid` below `proc`.
pub(super) fn read(proc: Proc<'_>, pid: i32, places: &Places) -> Outcome {
    let mut reader = Reader::new(proc, pid, places);
    let denied = match reader.process() {
        Ok(()) => reader.denied,
        Err(errno) if is_gone(errno) => return Outcome::Nothing,
        Err(_) if holds_nothing(proc.directory, pid) => return Outcome::Nothing,
        Err(errno) => Some(errno),
    };
    let Reader { sightings, unseen, carriers, .. } = reader;
    Outcome::Read { sightings, unseen, carriers, denied }
}

/// The descriptors of one process.
#[derive(Debug)]
pub(super) struct Descriptors {
    pub(super) numbers: Vec<u32>,
    pub(super) sightings: Vec<Sighting>,
    pub(super) carriers: Vec<Carrier>,
}

/// Reads the descriptors of process `pid`, and nothing else of it.
pub(super) fn descriptors(proc: Proc<'_>, pid: i32, places: &Places) -> Result<Descriptors, Errno> {
    let task = Task { directory: open_task(proc.directory, pid)?, tid: None };
    let numbers = numbers(task.directory.as_fd(), c"fd")?;
    let mut reader = Reader::new(proc, pid, places);
    reader.descriptors(&task)?;
    let Reader { sightings, carriers, .. } = reader;
    Ok(Descriptors { numbers, sightings, carriers })
}

fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ESRCH)
}

/// What only a file on a server can answer: it is on none of the filesystems asked for.
fn is_elsewhere(errno: Errno) -> bool {
    matches!(errno, Errno::ESTALE | Errno::ENOTCONN | Errno::EREMOTEIO)
}

/// A task's directory in /proc.
struct Task {
    directory: OwnedFd,
    /// The thread; `None` for the process as a whole.
    tid: Option<i32>,
}

struct Reader<'a> {
    proc: Proc<'a>,
    pid: i32,
    places: &'a Places,
    sightings: Vec<Sighting>,
    unseen: Vec<Unseen>,
    carriers: Vec<Carrier>,
    denied: Option<Errno>,
}

/// What a descriptor leads to.
enum LeadsTo {
    /// Something that does not count.
    Nothing,
    Inode(Sighting),
    Carrier(Carrier),
}

impl<'a> Reader<'a> {
    fn new(proc: Proc<'a>, pid: i32, places: &'a Places) -> Self {
        let (sightings, unseen, carriers) = (Vec::new(), Vec::new(), Vec::new());
        Self { proc, pid, places, sightings, unseen, carriers, denied: None }
    }

    fn process(&mut self) -> Result<(), Errno> {
        let proc = self.proc.directory;
        let leader = Task { directory: open_task(proc, self.pid)?, tid: None };
        let has_memory = match self.link(&leader, c"exe", Via::Executable) {
            Ok(()) => true,
            // A kernel thread, or a leader that has exited while its threads live on.
            Err(Errno::ENOENT) => false,
            Err(errno) => return Err(errno),
        };
        if !has_memory && holds_nothing(proc, self.pid) {
            return Err(Errno::ENOENT);
        }
        self.descriptors(&leader)?;
        self.directories(&leader)?;
        if has_memory {
            self.mappings(&leader)?;
        }
        self.threads(&leader, has_memory)
    }

    /// Reads what threads have for themselves. kcmp(2) tells which share a table; where it does not
    /// say, each is read.
    fn threads(&mut self, leader: &Task, has_memory: bool) -> Result<(), Errno> {
        // The link count of the task directory is two more than the number of threads
        // (fs/proc/base.c, `proc_task_getattr`).
        let threads = statx_at(leader.directory.as_fd(), c"task", Links::Follow)?.links;
        if threads <= 3 && has_memory {
            return Ok(());
        }
        let mut tables = vec![self.pid];
        let mut places = vec![self.pid];
        let mut memory_read = has_memory;
        for tid in numbers(leader.directory.as_fd(), c"task")? {
            let Ok(tid) = i32::try_from(tid) else { continue };
            if tid == self.pid {
                continue;
            }
            let read = self.thread(tid, &mut tables, &mut places, &mut memory_read);
            if let Err(errno) = read
                && !is_gone(errno)
            {
                return Err(errno);
            }
        }
        Ok(())
    }

    fn thread(
        &mut self,
        tid: i32,
        tables: &mut Vec<i32>,
        places: &mut Vec<i32>,
        memory_read: &mut bool,
    ) -> Result<(), Errno> {
        let own_table = !self.shares(tid, tables, Resource::Files);
        let own_places = !self.shares(tid, places, Resource::Directories);
        if !own_table && !own_places && *memory_read {
            return Ok(());
        }
        // Every thread has a directory of its own directly in /proc, though it is not listed there;
        // unlike task/TID it has map_files.
        let thread = Task { directory: open_task(self.proc.directory, tid)?, tid: Some(tid) };
        if own_table {
            tables.push(tid);
            self.descriptors(&thread)?;
        }
        if own_places {
            places.push(tid);
            self.directories(&thread)?;
        }
        if !*memory_read && self.link(&thread, c"exe", Via::Executable).is_ok() {
            *memory_read = true;
            self.mappings(&thread)?;
        }
        Ok(())
    }

    /// Whether `tid` shares `resource` with one of the tasks that have been read.
    fn shares(&self, tid: i32, read: &[i32], resource: Resource) -> bool {
        self.proc.same_numbers && read.iter().any(|&other| kcmp::same(other, tid, resource) == Ok(true))
    }

    fn directories(&mut self, task: &Task) -> Result<(), Errno> {
        for (name, via) in [(c"cwd", Via::WorkingDirectory), (c"root", Via::RootDirectory)] {
            match self.link(task, name, via) {
                // A zombie has neither.
                Err(errno) if !is_gone(errno) => return Err(errno),
                _ => {}
            }
        }
        Ok(())
    }

    /// Follows one of the links of /proc to the thing itself.
    fn link(&mut self, task: &Task, name: &CStr, via: Via) -> Result<(), Errno> {
        let directory = task.directory.as_fd();
        if self.places.may_hang() {
            match read_link(directory, name) {
                Ok(path) if self.places.leads_to_a_server(&path) => return Ok(()),
                // Where it leads is not told. No server that has a deadline itself is waited for longer than all.
                Ok(_) | Err(Errno::ENAMETOOLONG) => {}
                Err(errno) => return Err(errno),
            }
        }
        let stat = statx_at(directory, name, Links::Follow)?;
        if let Some(place) = self.places.without_name(&stat) {
            let name = LastName::of_link(read_link(directory, name), stat.inode);
            let hold = Hold { pid: self.pid, tid: task.tid, via };
            self.sightings.push(Sighting { place, stat, name, hold });
        }
        Ok(())
    }

    /// Looks at every descriptor. A table is split only when it is very large.
    fn descriptors(&mut self, task: &Task) -> Result<(), Errno> {
        const AT_ONCE: usize = 4096;
        let numbers = numbers(task.directory.as_fd(), c"fd")?;
        if numbers.is_empty() {
            return Ok(());
        }
        let table = open_directory(task.directory.as_fd(), c"fd")?;
        let this = &*self;
        let read = |numbers: &[u32]| {
            let (mut found, mut carriers, mut denied) = (Vec::new(), Vec::new(), None);
            for &number in numbers {
                match this.descriptor(task, table.as_fd(), number) {
                    Ok(LeadsTo::Nothing) => {}
                    Ok(LeadsTo::Inode(sighting)) => found.push(sighting),
                    Ok(LeadsTo::Carrier(carrier)) => carriers.push(carrier),
                    Err(errno) if is_gone(errno) || is_elsewhere(errno) => {}
                    Err(errno) => denied = Some(errno),
                }
            }
            (found, carriers, denied)
        };
        // Outside a pool, where no threads were to be had, rayon would try to start one.
        let found: Vec<_> = match rayon::current_thread_index() {
            Some(_) => numbers.par_chunks(AT_ONCE).map(read).collect(),
            None => vec![read(&numbers)],
        };
        for (found, carriers, denied) in found {
            self.sightings.extend(found);
            self.carriers.extend(carriers);
            self.denied = self.denied.or(denied);
        }
        Ok(())
    }

    fn descriptor(&self, task: &Task, table: BorrowedFd<'_>, number: u32) -> Result<LeadsTo, Errno> {
        if self.places.may_hang() {
            let mount = fdinfo::mount(&read_fdinfo(task, number)?);
            if mount.is_some_and(|mount| self.places.is_served(mount)) {
                return Ok(LeadsTo::Nothing);
            }
        }
        let name = Decimal::new(number);
        let stat = statx_at(table, name.as_c_str(), Links::Follow)?;
        let Some(place) = self.places.without_name(&stat) else {
            let carrier = Carrier::new(&stat, self.pid, task.tid, number);
            return Ok(carrier.map_or(LeadsTo::Nothing, LeadsTo::Carrier));
        };
        let name = LastName::of_link(read_link(table, name.as_c_str()), stat.inode);
        let info = read_fdinfo(task, number).ok().and_then(|text| fdinfo::descriptor(&text));
        let hold = Hold { pid: self.pid, tid: task.tid, via: Via::Descriptor { number, info } };
        Ok(LeadsTo::Inode(Sighting { place, stat, name, hold }))
    }

    /// Finds deleted files among the mappings by their text, then asks each inode.
    fn mappings(&mut self, task: &Task) -> Result<(), Errno> {
        let text = read_file(task.directory.as_fd(), c"maps")?;
        for mapping in proc_maps::deleted(&text) {
            let link = CString::new([b"map_files/", mapping.range.to_bytes()].concat()).unwrap_or_default();
            match statx_at(task.directory.as_fd(), &link, Links::Follow) {
                Ok(stat) => {
                    let same = |seen: &Sighting| (seen.stat.dev, seen.stat.inode) == (stat.dev, stat.inode);
                    let program = |seen: &Sighting| seen.hold.via == Via::Executable && same(seen);
                    if self.sightings.iter().any(program) {
                        // A running program is always mapped, too.
                        continue;
                    }
                    if let Some(place) = self.places.without_name(&stat) {
                        let link = read_link(task.directory.as_fd(), &link);
                        let mut name = LastName::of_link(link, stat.inode);
                        // Of any length, unlike the link.
                        name.or(LastName::of_path(mapping.path, stat.inode));
                        let hold = Hold { pid: self.pid, tid: task.tid, via: Via::Mapping };
                        self.sightings.push(Sighting { place, stat, name, hold });
                    }
                }
                // Unmapped meanwhile.
                Err(errno) if is_gone(errno) => {}
                Err(errno) => {
                    let proc_maps::Mapping { dev, inode, path, .. } = mapping;
                    self.unseen.push(Unseen { dev, inode, path, errno });
                }
            }
        }
        Ok(())
    }
}

/// Whether a task that may not be looked into has nothing to hide: a kernel thread, or a process
/// that has exited with all its threads and waits for its parent.
fn holds_nothing(proc: BorrowedFd<'_>, pid: i32) -> bool {
    state(proc, pid).is_some_and(|state| state.is_kernel_thread || state.has_exited)
}

/// Whether a task is a kernel thread. All of them are in the first pid namespace only.
pub(super) fn is_kernel_thread(proc: BorrowedFd<'_>, pid: i32) -> bool {
    state(proc, pid).is_some_and(|state| state.is_kernel_thread)
}

struct State {
    is_kernel_thread: bool,
    /// With all its threads.
    has_exited: bool,
}

/// Everybody may read /proc/PID/stat: `proc_pid_stat(5)`.
fn state(proc: BorrowedFd<'_>, pid: i32) -> Option<State> {
    /// `include/linux/sched.h`.
    const PF_KTHREAD: u64 = 0x0020_0000;
    /// Fields 3, 9 and 20, counted from behind the command's name, which may hold blanks.
    const STATE: usize = 0;
    const FLAGS: usize = 6;
    const THREADS: usize = 17;
    let text = read_file(open_task(proc, pid).ok()?.as_fd(), c"stat").ok()?;
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let fields = String::from_utf8_lossy(&text[end + 1..]).into_owned();
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Some(State {
        is_kernel_thread: number(FLAGS) & PF_KTHREAD != 0,
        has_exited: fields.get(STATE) == Some(&"Z") && number(THREADS) <= 1,
    })
}

fn open_task(proc: BorrowedFd<'_>, tid: i32) -> Result<OwnedFd, Errno> {
    let number = u32::try_from(tid).map_err(|_| Errno::ESRCH)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(proc, Decimal::new(number).as_c_str(), flags, Mode::empty())
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

pub(super) fn read_link(directory: BorrowedFd<'_>, name: &CStr) -> Result<PathBuf, Errno> {
    readlinkat(directory, name).map(PathBuf::from)
}

pub(super) fn read_file(directory: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    let fd = openat(directory, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    read_rest(fd, Vec::new())
}

/// Reads what is written in one go, such as fdinfo (`single_open` in fs/proc/fd.c): whatever comes short
/// of the room given is all of it.
pub(super) fn read_record(directory: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    const ROOM: usize = 1024;
    let fd = openat(directory, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut text = vec![0; ROOM];
    let length = nix::unistd::read(&fd, &mut text)?;
    text.truncate(length);
    if length < ROOM { Ok(text) } else { read_rest(fd, text) }
}

fn read_rest(fd: OwnedFd, mut text: Vec<u8>) -> Result<Vec<u8>, Errno> {
    let read = std::io::Read::read_to_end(&mut std::fs::File::from(fd), &mut text);
    read.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    Ok(text)
}

fn read_fdinfo(task: &Task, number: u32) -> Result<Vec<u8>, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = openat(task.directory.as_fd(), c"fdinfo", flags, Mode::empty())?;
    read_record(directory.as_fd(), Decimal::new(number).as_c_str())
}

/// The entries of a directory of /proc that are numbers.
pub(super) fn numbers(parent: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u32>, Errno> {
    let mut numbers = Vec::new();
    getdents::each(parent, name, |entry| {
        numbers.extend(entry.name.to_str().ok().and_then(|name| name.parse::<u32>().ok()));
    })?;
    Ok(numbers)
}

/// A number as a C string, without an allocation for each of very many descriptors.
pub(super) struct Decimal {
    text: [u8; Self::LENGTH],
    start: usize,
}

impl Decimal {
    /// Ten digits and a NUL.
    const LENGTH: usize = 11;

    pub(super) fn new(mut number: u32) -> Self {
        let mut text = [0; Self::LENGTH];
        let mut start = Self::LENGTH - 1;
        loop {
            start -= 1;
            // A digit is less than ten.
            text[start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
            if number == 0 {
                return Self { text, start };
            }
        }
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.text[self.start..]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_c_strings() {
        for number in [0, 7, 10, 4_294_967_295] {
            assert_eq!(Decimal::new(number).as_c_str().to_str().unwrap(), number.to_string());
        }
    }
}
