// SPDX-License-Identifier: MIT OR Apache-2.0

//! A process or thread, through its directory in /proc. The descriptor of that
//! directory stays this very task's: when it has ended, nothing can be opened below it any more, though
//! its number may be another's (`fs/proc/base.c`, `pid_revalidate`).

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::mount_ids;
use crate::commands::refusal::Refusal;
use crate::commands::survey::PROC;
use crate::model::capability::Capability;
use crate::model::file_spec::{FileSpec, Handle};
use crate::mounts::Mounts;
use crate::sys::stat::{Links, Stat, statx_at, statx_fd};
use crate::sys::{Dev, getdents, pidfd, scout};

/// What following a link of another's process takes: proc(5), `capabilities(7)`.
const NEEDS: [Capability; 2] = [Capability::SysPtrace, Capability::DacReadSearch];
/// What following those in `map_files` takes besides: `fs/proc/base.c`, `proc_map_files_get_link`.
const NEEDS_FOR_MAPPINGS: [Capability; 3] =
    [Capability::SysPtrace, Capability::DacReadSearch, Capability::CheckpointRestore];

/// A process, or a thread with a table of its own.
#[derive(Debug)]
pub struct Task {
    number: i32,
    /// The process it belongs to.
    process: i32,
    directory: OwnedFd,
}

impl Task {
    /// The task with that number.
    pub(super) fn open(number: i32, what: FileSpec) -> Result<Self, Refusal> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(&PathBuf::from(PROC).join(number.to_string()), flags, Mode::empty());
        let directory = directory.map_err(|errno| match errno {
            Errno::ENOENT | Errno::ESRCH => Refusal::NoProcess(what),
            errno => Refusal::denied_or(&what, errno, &NEEDS),
        })?;
        let mut task = Self { number, process: number, directory };
        // Threads have directories, too, which are only not listed.
        let status = fs::read_to_string(task.path("status")).unwrap_or_default();
        let process = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
        task.process = process.unwrap_or(number);
        Ok(task)
    }

    /// The process's number.
    pub fn process(&self) -> i32 {
        self.process
    }

    /// The thread's number, where it is not the process's.
    pub fn thread(&self) -> Option<i32> {
        (self.number != self.process).then_some(self.number)
    }

    /// Whether it still runs. While it does, its number is nobody else's.
    pub fn is_alive(&self) -> bool {
        statx_at(self.directory.as_fd(), c"stat", Links::Stay).is_ok()
    }

    /// Whether its descriptor leads to that inode.
    pub fn has_open(&self, descriptor: u32, identity: (Dev, u64)) -> bool {
        let name = CString::new(format!("fd/{descriptor}")).unwrap_or_default();
        let stat = statx_at(self.directory.as_fd(), &name, Links::Follow);
        stat.is_ok_and(|stat| stat.identity() == identity)
    }

    /// A descriptor of the task itself: readable when it has ended.
    pub fn pidfd(&self) -> Result<OwnedFd, Errno> {
        let pidfd = pidfd::open(self.number)?;
        // Alive after the number was looked up, it was alive then, and the number its own.
        if self.is_alive() { Ok(pidfd) } else { Err(Errno::ESRCH) }
    }

    /// Whether the filesystem of what it holds in that way answers within `timeout`; of all that it has
    /// mapped, for a mapping. A link that leads nowhere is an answer.
    pub(super) fn answers(&self, handle: Handle, timeout: Duration) -> bool {
        let names = match handle {
            Handle::Descriptor(number) => CString::new(format!("fd/{number}")).into_iter().collect(),
            Handle::Executable => vec![c"exe".to_owned()],
            Handle::Mapping => self.mapped().unwrap_or_default(),
        };
        let task = format!("{PROC}/{}/", self.number);
        let paths: Vec<CString> = names
            .iter()
            .filter_map(|name| CString::new([task.as_bytes(), name.to_bytes()].concat()).ok())
            .collect();
        let paths: Vec<&CStr> = paths.iter().map(CString::as_c_str).collect();
        // Where no child can be had, going without one is better than not at all.
        scout::all_answer(&paths, timeout) != Ok(false)
    }

    /// Opens what a link of its directory leads to with `O_PATH`: no device is opened by that, and
    /// nothing waits for a FIFO's other end.
    pub(super) fn link(&self, name: &str, what: FileSpec) -> Result<OwnedFd, Refusal> {
        let opened = openat(&self.directory, name, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        opened.map_err(|errno| self.refusal(errno, what, &NEEDS))
    }

    fn refusal(&self, errno: Errno, what: FileSpec, needs: &[Capability]) -> Refusal {
        match errno {
            Errno::ENOENT | Errno::ESRCH if self.is_alive() => Refusal::NotHeld(what),
            Errno::ENOENT | Errno::ESRCH => Refusal::NoProcess(what),
            errno => Refusal::denied_or(&what, errno, needs),
        }
    }

    /// Opens the deleted file that it has mapped: the one with the number `wanted`, else the only one
    /// that is not its program.
    pub(super) fn mapping(
        &self,
        what: FileSpec,
        wanted: Option<u64>,
        mounts: &Mounts,
    ) -> Result<OwnedFd, Refusal> {
        let program = statx_at(self.directory.as_fd(), c"exe", Links::Follow).ok();
        let program = program.map(|stat| stat.identity());
        let mut found: Vec<(OwnedFd, Stat)> = Vec::new();
        for name in self.mapped().map_err(|errno| self.refusal(errno, what, &NEEDS_FOR_MAPPINGS))? {
            let opened =
                openat(&self.directory, name.as_c_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
            let inode = match opened {
                Ok(inode) => inode,
                // Unmapped meanwhile.
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(self.refusal(errno, what, &NEEDS_FOR_MAPPINGS)),
            };
            let Ok(stat) = statx_fd(inode.as_fd()) else { continue };
            let is_new = !found.iter().any(|(_, other)| other.identity() == stat.identity());
            let is_meant = match wanted {
                Some(number) => stat.inode == number,
                None => Some(stat.identity()) != program && self.shows_mount_of(&stat, mounts),
            };
            if stat.links == 0 && is_new && is_meant {
                found.push((inode, stat));
            }
        }
        let numbers: Vec<String> = found.iter().map(|(_, stat)| format!("--inode {}", stat.inode)).collect();
        match (found.pop(), found.is_empty()) {
            (None, _) => Err(Refusal::NotHeld(what)),
            (Some((inode, _)), true) => Ok(inode),
            (Some(_), false) => Err(Refusal::Ambiguous { what, choice: numbers.join(", ") }),
        }
    }

    /// Its mappings of files, as paths below its directory.
    fn mapped(&self) -> Result<Vec<CString>, Errno> {
        let mut names = Vec::new();
        getdents::each(self.directory.as_fd(), c"map_files", |entry| {
            names.extend(CString::new([b"map_files/", entry.name.to_bytes()].concat()));
        })?;
        Ok(names)
    }

    /// Whether an inode is on a mount that is listed here or in the task's own namespace.
    pub(super) fn shows_mount_of(&self, stat: &Stat, mounts: &Mounts) -> bool {
        // Not known before Linux 5.8.
        let Some(id) = stat.mount else { return true };
        mounts.by_id(id).is_some() || mount_ids(&self.path("mountinfo")).contains(&id)
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd()))
    }
}
