// SPDX-License-Identifier: MIT OR Apache-2.0

//! A deleted file, found once and opened once: what was shown is what is acted on.
//! The descriptor stays that very inode, whatever becomes of the process, its number, and the number
//! of its descriptor; everything that is done later goes through it.

mod task;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, readlinkat};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, faccessat};

use crate::commands::refusal::Refusal;
use crate::filesystems::{Mounted, Unable, Unlinked};
use crate::holders::Held;
use crate::model::capability::Capability;
use crate::model::deleted::Hold;
use crate::model::escape;
use crate::model::file_spec::{FileSpec, Handle};
use crate::model::last_name::LastName;
use crate::model::traits::TraitsOf;
use crate::mounts::locate::{self, Target};
use crate::mounts::{Mounts, mountinfo};
use crate::sys::detached::within;
use crate::sys::stat::{Stat, statx_fd};
pub use task::Task;

/// Which file, and what it has to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How it was named.
    pub what: FileSpec,
    /// Where an inode number counts.
    pub filesystem: Option<PathBuf>,
    /// The number it must have.
    pub inode: Option<u64>,
    /// How long to wait for the filesystem's own list.
    pub timeout: Duration,
}

/// A file without a name that stays the same inode.
#[derive(Debug)]
pub struct Opened {
    /// How it was named.
    pub what: FileSpec,
    /// As it was when it was opened.
    pub stat: Stat,
    /// Its last name.
    pub name: LastName,
    /// Who holds it; none where it was found by its number.
    pub task: Option<Task>,
    /// Opened with `O_PATH`: without any effect on the file.
    inode: OwnedFd,
}

impl Opened {
    /// Finds and opens it. Refused is what has a name, what is no ordinary file and, where a number was
    /// given, what has another.
    pub fn open(wanted: &Wanted, mounts: &Mounts) -> Result<Self, Refusal> {
        let opened = match wanted.what {
            FileSpec::Inode(number) => Self::by_number(number, wanted, mounts),
            FileSpec::Held { task, handle } => Self::by_holder(task, handle, wanted, mounts),
        }?;
        let found = opened.stat.inode;
        match wanted.inode {
            Some(expected) if expected != found => {
                Err(Refusal::OtherInode { what: wanted.what, expected, found })
            }
            _ => opened.check().map(|_| opened),
        }
    }

    /// One that a scan or the filesystem has listed: through the first of its holders that still leads
    /// to it, else by its number on the filesystem of `target`.
    pub fn listed(held: &Held, target: &Target, mounts: &Mounts, timeout: Duration) -> Result<Self, Refusal> {
        let mut wanted = Wanted {
            what: FileSpec::Inode(held.stat.inode),
            filesystem: Some(target.mount.mountpoint.clone()),
            inode: Some(held.stat.inode),
            timeout,
        };
        for what in held.holds.iter().filter_map(FileSpec::of_hold) {
            match Self::open(&Wanted { what, ..wanted.clone() }, mounts) {
                Ok(opened) if opened.stat.identity() == held.stat.identity() => return Ok(opened),
                // Nor will it to the next.
                Err(refusal @ Refusal::NoAnswer { .. }) => return Err(refusal),
                Ok(_) | Err(_) => {}
            }
        }
        wanted.inode = None;
        let found = Self::by_number(held.stat.inode, &wanted, mounts)?;
        found.check().map(|_| found)
    }

    fn by_holder(number: i32, handle: Handle, wanted: &Wanted, mounts: &Mounts) -> Result<Self, Refusal> {
        let what = wanted.what;
        let task = Task::open(number, what)?;
        if !task.answers(handle, wanted.timeout) {
            return Err(Refusal::NoAnswer { subject: what.to_string(), timeout: wanted.timeout });
        }
        let inode = match handle {
            Handle::Descriptor(descriptor) => task.link(&format!("fd/{descriptor}"), what)?,
            Handle::Executable => task.link("exe", what)?,
            Handle::Mapping => task.mapping(what, wanted.inode, mounts)?,
        };
        let stat = statx_fd(inode.as_fd()).map_err(|errno| Refusal::system(&what, errno))?;
        Ok(Self { what, name: last_name(&inode, &stat), stat, task: Some(task), inode })
    }

    fn by_number(number: u64, wanted: &Wanted, mounts: &Mounts) -> Result<Self, Refusal> {
        /// Reading the volume, searching btrfs and asking XFS, then opening by handle.
        const NEEDS: [Capability; 2] = [Capability::SysAdmin, Capability::DacReadSearch];
        let (what, timeout) = (wanted.what, wanted.timeout);
        let path = wanted.filesystem.as_deref().ok_or(Refusal::WhichFilesystem(what))?;
        let Target { mount, root, .. } = locate::holding(path, mounts, timeout)?;
        let failed = |errno| match errno {
            Errno::ETIMEDOUT => Refusal::NoAnswer { subject: escape::path(path), timeout },
            errno => Refusal::denied_or(&what, errno, &NEEDS),
        };
        let root = root.map_err(failed)?;
        let (asked, descriptor) = (mount.clone(), Arc::clone(&root));
        let open = move || Mounted { mount: &asked, root: descriptor.as_fd() }.open_unlinked(number);
        let list = within(timeout, open).unwrap_or(Err(Unable::Refused(Errno::ETIMEDOUT)));
        let list = list.map_err(|unable| failed(unable.errno()))?;
        let mountpoint = mount.mountpoint;
        let Some(mut list) = list else {
            return Err(Refusal::NoList { what, mountpoint, fstype: mount.fstype });
        };
        match (list.pop(), list.is_empty()) {
            (None, _) => Err(Refusal::NotListed { what, mountpoint }),
            (Some(_), false) => Err(Refusal::Ambiguous {
                what,
                choice: "in several subvolumes; name a holder (PID:FD)".into(),
            }),
            (Some((inode, Unlinked { stat, name })), true) => {
                Ok(Self { what, stat, name, task: None, inode })
            }
        }
    }

    /// What it is now. Refused is what has got a name meanwhile (linkat(2) can give one to what was made
    /// with `O_TMPFILE`), and what is no ordinary file.
    pub fn check(&self) -> Result<Stat, Refusal> {
        let what = self.what;
        let stat = statx_fd(self.inode.as_fd()).map_err(|errno| Refusal::system(&what, errno))?;
        if !stat.is_file() {
            return Err(Refusal::NotAFile { what, directory: stat.is_directory() });
        }
        if stat.links > 0 {
            let path = self.name.path().filter(|path| path.exists()).map(Path::to_path_buf);
            return Err(Refusal::Named { what, path });
        }
        Ok(stat)
    }

    /// Opens it for reading; its access time stays as it is where the kernel grants that.
    pub fn reader(&self) -> Result<File, Refusal> {
        let opened = match self.reopen(OFlag::O_RDONLY | OFlag::O_NOATIME) {
            // Only for root and the owner: open(2).
            Err(Errno::EPERM) => self.reopen(OFlag::O_RDONLY),
            result => result,
        };
        opened.map_err(|errno| Refusal::denied_or(&self.what, errno, &[Capability::DacReadSearch]))
    }

    /// Whether it may be written to, without opening it.
    pub fn may_be_written(&self) -> Result<(), Refusal> {
        let link = self.link();
        let access = faccessat(AT_FDCWD, link.as_str(), AccessFlags::W_OK, AtFlags::AT_EACCESS);
        access.map_err(|errno| self.not_writable(errno))
    }

    /// Opens it for writing.
    pub fn writer(&self) -> Result<File, Refusal> {
        self.reopen(OFlag::O_WRONLY).map_err(|errno| self.not_writable(errno))
    }

    fn not_writable(&self, errno: Errno) -> Refusal {
        match errno {
            Errno::ETXTBSY => Refusal::InUse(self.what),
            errno => Refusal::denied_or(&self.what, errno, &[Capability::DacOverride]),
        }
    }

    fn reopen(&self, flags: OFlag) -> Result<File, Errno> {
        open(self.link().as_str(), flags | OFlag::O_CLOEXEC, Mode::empty()).map(File::from)
    }

    fn link(&self) -> String {
        format!("/proc/self/fd/{}", self.inode.as_raw_fd())
    }

    /// The file with the holder through which it was found.
    pub fn held(&self) -> Held {
        let hold = match (self.what, &self.task) {
            (FileSpec::Held { handle, .. }, Some(task)) => {
                Some(Hold { pid: task.process(), tid: task.thread(), via: handle.into() })
            }
            _ => None,
        };
        Held {
            stat: self.stat,
            name: self.name.clone(),
            holds: hold.into_iter().collect(),
            kernel: Vec::new(),
        }
    }

    /// Whether the holder through which it was found still holds it, as far as can be told.
    pub fn is_held(&self) -> bool {
        match (self.what, &self.task) {
            (FileSpec::Held { handle: Handle::Descriptor(number), .. }, Some(task)) => {
                task.has_open(number, self.stat.identity())
            }
            (_, task) => task.as_ref().is_some_and(Task::is_alive),
        }
    }

    /// Whether it is on a filesystem that is mounted here or where its holder is. What is on none (a
    /// memfd, System V shared memory) is memory that no df counts.
    pub fn is_on_a_mount(&self, mounts: &Mounts) -> bool {
        self.task.as_ref().is_none_or(|task| task.shows_mount_of(&self.stat, mounts))
    }
}

fn last_name(inode: &OwnedFd, stat: &Stat) -> LastName {
    let link = format!("/proc/self/fd/{}", inode.as_raw_fd());
    LastName::of_link(readlinkat(AT_FDCWD, link.as_str()).map(PathBuf::from), stat.inode)
}

/// The mount ids in a mountinfo file.
fn mount_ids(mountinfo: &Path) -> Vec<u64> {
    let text = std::fs::read(mountinfo).unwrap_or_default();
    mountinfo::parse(&text, TraitsOf::default()).into_iter().map(|mount| mount.id).collect()
}
