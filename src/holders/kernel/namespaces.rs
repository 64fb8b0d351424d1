// SPDX-License-Identifier: MIT OR Apache-2.0

//! The mount namespaces, and those of their mounts that can hold a file without a name.

use std::cell::OnceCell;
use std::ffi::{CString, OsString};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use rustc_hash::FxHashSet;

use super::tasks::{Tasks, inode_in, tasks};
use crate::holders::patience::Patience;
use crate::holders::places::Places;
use crate::model::capability::{Capability, Effective};
use crate::model::deleted::{KernelHolder, KernelVia, MountedAt};
use crate::model::traits::TraitsOf;
use crate::mounts::mountinfo;
use crate::sys::capabilities;
use crate::sys::magic::{self, BINFMTFS_MAGIC, EROFS_SUPER_MAGIC_V1, TRACEFS_MAGIC};
use crate::sys::stat::{Stat, statx_fd};
use crate::sys::{Dev, mount_namespace, scout};

/// A mount namespace with mounts of interest.
#[derive(Debug)]
pub(super) struct Namespace {
    /// Leads into it, where it has to be entered.
    entry: Option<OwnedFd>,
    /// Where its root is seen from here, where it need not be.
    root: PathBuf,
    /// Its inode number; none for our own.
    inode: Option<u64>,
    pub(super) mounts: Vec<Mounted>,
}

/// A mount of interest.
#[derive(Debug)]
pub(super) struct Mounted {
    id: u64,
    dev: Dev,
    /// Where, from the root of its namespace.
    pub(super) point: PathBuf,
    pub(super) interest: Interest,
}

/// Why a mount is of interest.
#[derive(Debug)]
pub(super) enum Interest {
    /// It shows a directory or a file, of a filesystem asked for, that has lost its name.
    Deleted { filesystem: usize, root: PathBuf },
    /// It lists what is registered there.
    BinfmtMisc,
    /// The same.
    Tracefs,
    /// It is the filesystem in a file: erofs without a block device, Linux 6.12.
    Image { file: PathBuf },
}

/// What mountinfo and statmount both tell of a mount.
struct Described<'a> {
    id: u64,
    dev: Dev,
    magic: u64,
    root: &'a [u8],
    point: &'a [u8],
    source: &'a [u8],
}

/// All of them that could be read, our own first.
pub(super) struct Namespaces {
    all: Vec<Namespace>,
    proc: PathBuf,
    timeout: Duration,
    /// Who is in them: read only when that is to be told.
    tasks: OnceCell<Tasks>,
}

impl Namespaces {
    /// Looks through all mount namespaces, if there is a right to: through those of processes
    /// otherwise, and before Linux 6.12.
    pub(super) fn read(places: &Places, proc: &Path, timeout: Duration) -> Self {
        let mut reader = Reader { places, seen: FxHashSet::default(), found: Vec::new() };
        if !Effective::of(capabilities::effective()).has(Capability::SysAdmin) || reader.all().is_err() {
            reader.found.clear();
            reader.seen.clear();
            reader.of_processes(proc, timeout);
        }
        Self { all: reader.found, proc: proc.to_owned(), timeout, tasks: OnceCell::new() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.all.iter()
    }

    /// A mount as a holder: named by its mount point and its namespace.
    pub(super) fn hold(&self, namespace: &Namespace, mounted: &Mounted) -> KernelHolder {
        let Mounted { id, point, .. } = mounted;
        let at = MountedAt { point: point.clone(), mount: *id, namespace: namespace.inode, task: None };
        let shown = point.display();
        let (name, task) = match namespace.inode {
            None => (shown.to_string(), None),
            Some(inode) => {
                let tasks = self.tasks.get_or_init(|| tasks(&self.proc, true, self.timeout));
                match tasks.by_namespace.get(&inode) {
                    Some(&task) => (format!("{shown} (seen by process {task})"), Some(task)),
                    None if tasks.all => (format!("{shown} (mnt:[{inode}], no process)"), None),
                    None => (format!("{shown} (mnt:[{inode}])"), None),
                }
            }
        };
        KernelHolder { via: KernelVia::Mount, name, mounted: Some(MountedAt { task, ..at }) }
    }
}

impl Namespace {
    /// Opens paths in it with `O_PATH`.
    pub(super) fn open(&self, paths: &[&Path], patience: &Patience) -> Vec<Result<OwnedFd, Errno>> {
        let from_here = |path: &&Path| {
            let path = [self.root.as_os_str().as_bytes(), path.as_os_str().as_bytes()].concat();
            CString::new(path).unwrap_or_default()
        };
        let names: Vec<CString> = paths.iter().map(from_here).collect();
        let entry = self.entry.as_ref().map(AsFd::as_fd);
        let opened = patience.spend(|timeout| scout::open_each(entry, &names, timeout));
        opened.unwrap_or_else(|errno| paths.iter().map(|_| Err(errno)).collect())
    }

    /// Whether a mount in it is what is seen at its mount point.
    pub(super) fn shows(&self, mounted: &Mounted, patience: &Patience) -> bool {
        let opened = self.open(&[&mounted.point], patience).pop().unwrap_or(Err(Errno::ENOENT));
        opened.and_then(|fd| statx_fd(fd.as_fd())).is_ok_and(|stat| mounted.is_shown_by(&stat))
    }

    /// Whether a path leads nowhere in it.
    pub(super) fn lacks(&self, path: &Path, patience: &Patience) -> bool {
        let opened = self.open(&[path], patience);
        matches!(opened.first(), Some(Err(Errno::ENOENT | Errno::ENOTDIR)))
    }
}

impl Mounted {
    /// Whether what was found at the mount point is this mount, and no other that lies over it.
    pub(super) fn is_shown_by(&self, stat: &Stat) -> bool {
        // Before Linux 5.8 only the device can tell.
        stat.mount.map_or(stat.dev == self.dev, |mount| mount == self.id)
    }
}

struct Reader<'a> {
    places: &'a Places,
    /// Filesystems on which the kernel lists something: the same in each namespace.
    seen: FxHashSet<Dev>,
    found: Vec<Namespace>,
}

impl Reader<'_> {
    fn all(&mut self) -> Result<(), Errno> {
        let mut is_own = true;
        let devices = &self.places.devices;
        let wanted = |dev: Dev, magic: u64| {
            devices.contains_key(&dev)
                || [BINFMTFS_MAGIC, TRACEFS_MAGIC, EROFS_SUPER_MAGIC_V1].contains(&magic)
        };
        mount_namespace::all(|namespace| {
            let mut mounts = Vec::new();
            // In one that has gone meanwhile, or of which nothing is told, there is nothing to find.
            let _ = mount_namespace::mounts(&namespace, wanted, |mounted| {
                let mount_namespace::Mounted { id, dev, magic, root, point, source } = mounted;
                mounts.extend(self.interest(&Described { id, dev, magic, root, point, source }));
            });
            let inode = (!is_own).then_some(namespace.inode);
            let entry = (!is_own).then_some(namespace.fd);
            is_own = false;
            self.keep(Namespace { entry, root: PathBuf::new(), inode, mounts });
        })
    }

    fn of_processes(&mut self, proc: &Path, timeout: Duration) {
        let own = fs::read_link(proc.join("self/ns/mnt")).ok().and_then(|link| inode_in(&link));
        self.of_process(&proc.join("self"), PathBuf::new(), None);
        for (inode, pid) in tasks(proc, false, timeout).by_namespace {
            if Some(inode) != own {
                let process = proc.join(pid.to_string());
                self.of_process(&process, process.join("root"), Some(inode));
            }
        }
    }

    fn of_process(&mut self, process: &Path, root: PathBuf, inode: Option<u64>) {
        let mut mounts = Vec::new();
        let table = fs::read(process.join("mountinfo")).unwrap_or_default();
        for mount in mountinfo::parse(&table, TraitsOf::default()) {
            let (path, point) = (mount.root.as_os_str().as_bytes(), mount.mountpoint.as_os_str().as_bytes());
            let seen = Described {
                id: mount.id,
                dev: mount.dev,
                magic: magic::of_type(&mount.fstype),
                root: path,
                point,
                source: mount.source.as_bytes(),
            };
            mounts.extend(self.interest(&seen));
        }
        self.keep(Namespace { entry: None, root, inode, mounts });
    }

    fn keep(&mut self, namespace: Namespace) {
        if !namespace.mounts.is_empty() {
            self.found.push(namespace);
        }
    }

    fn interest(&mut self, seen: &Described<'_>) -> Option<Mounted> {
        let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
        // `seq_dentry` (fs/seq_file.c) marks a root without a name so. No file can be named like that.
        let deleted = seen.root.strip_suffix(b"//deleted");
        let interest = match (deleted, self.places.devices.get(&seen.dev), seen.magic) {
            (Some(root), Some(&filesystem), _) => Interest::Deleted { filesystem, root: path(root) },
            (_, _, BINFMTFS_MAGIC) if self.seen.insert(seen.dev) => Interest::BinfmtMisc,
            (_, _, TRACEFS_MAGIC) if self.seen.insert(seen.dev) => Interest::Tracefs,
            (_, _, EROFS_SUPER_MAGIC_V1) if seen.dev.major == 0 && seen.source.starts_with(b"/") => {
                Interest::Image { file: path(seen.source) }
            }
            _ => return None,
        };
        Some(Mounted { id: seen.id, dev: seen.dev, point: path(seen.point), interest })
    }
}
