//! What the kernel itself holds, with no process behind it: loop devices, mounts, interpreters of
//! `binfmt_misc`, probes, swap. Some of it tells its inode, the rest only the name that it was given.

mod loops;
mod namespaces;
mod registrations;
mod swaps;
mod tasks;
mod unmount;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use super::patience::Patience;
use super::places::Places;
use super::{Held, Key, Scan, key};
use crate::model::bytes::Bytes;
use crate::model::last_name::LastName;
use crate::model::skips::{Kind, Skip};
use crate::sys::stat::{Stat, statx_fd};
use namespaces::{Mounted, Namespace, Namespaces, What};
pub use unmount::Reached;

/// One way in which the kernel holds an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelHold {
    /// How.
    pub via: KernelVia,
    /// What holds it: a device, a mount point and the way to it, an entry, an event.
    pub name: String,
    /// Where it can be unmounted, if it is a mount that is what is seen at its mount point.
    pub mounted: Option<MountedAt>,
}

impl KernelHold {
    fn new(via: KernelVia, name: String) -> Self {
        Self { via, name, mounted: None }
    }
}

/// A mount, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedAt {
    /// From the root of its mount namespace.
    pub point: PathBuf,
    /// Its number, as in mountinfo.
    mount: u64,
    /// The inode number of that namespace, where it is not our own.
    namespace: Option<u64>,
    /// A process in it, if there is one.
    task: Option<u32>,
}

/// The ways in which the kernel can hold an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelVia {
    /// A loop device has it behind it.
    Loop,
    /// It is mounted: a directory, a file, or the image of a filesystem.
    Mount,
    /// It is the interpreter that an entry of `binfmt_misc` keeps open.
    BinfmtMisc,
    /// A probe is set in it.
    Uprobe,
    /// It is swap space.
    Swap,
}

impl KernelVia {
    /// The name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Mount => "mount",
            Self::BinfmtMisc => "binfmt_misc",
            Self::Uprobe => "uprobe",
            Self::Swap => "swap",
        }
    }
}

/// Something that holds a file of which only the name is known.
#[derive(Debug)]
struct Claim {
    /// The name that the file had.
    path: PathBuf,
    hold: KernelHold,
    /// Where that name must lead nowhere, by the number of the namespace. Else the kernel has said itself
    /// that it is gone.
    unless_in: Option<usize>,
    /// What is known of the file's length.
    longer_than: Bytes,
}

impl Claim {
    /// One of which the kernel says that the name is gone, and no more.
    fn deleted(path: PathBuf, hold: KernelHold) -> Self {
        Self { path, hold, unless_in: None, longer_than: Bytes::ZERO }
    }
}

/// Adds to `scans` what the kernel holds on the filesystems asked for. Those that are `listed` hold
/// nothing but what is in their scan already; on the others more may be found.
pub fn attribute(scans: &mut [Scan], listed: &[bool], places: &Places, proc: &Path, timeout: Duration) {
    if scans.iter().zip(listed).all(|(scan, listed)| *listed && scan.held.is_empty()) {
        return;
    }
    let patience = &Patience::new(timeout);
    let namespaces = Namespaces::read(places, proc, timeout);
    let mut attribution = Attribution { scans, listed, places, claims: Vec::new() };
    for namespace in namespaces.iter() {
        attribution.mounts(&namespaces, namespace, patience);
    }
    attribution.loops(patience);
    if attribution.scans.iter().flat_map(|scan| &scan.held).any(|held| !held.is_attributed()) {
        attribution.claims.extend(registrations::read(&namespaces, patience));
        attribution.claims.extend(swaps::read(proc));
        attribution.settle(&namespaces, patience);
    }
}

struct Attribution<'a> {
    scans: &'a mut [Scan],
    listed: &'a [bool],
    places: &'a Places,
    claims: Vec<Claim>,
}

impl Attribution<'_> {
    /// The mounts in a namespace whose root has no name any more.
    fn mounts(&mut self, namespaces: &Namespaces, namespace: &Namespace, patience: &Patience) {
        let deleted = |mounted: &&Mounted| matches!(mounted.what, What::Deleted { .. });
        let mounts: Vec<&Mounted> = namespace.mounts.iter().filter(deleted).collect();
        if mounts.is_empty() {
            return;
        }
        let points: Vec<&Path> = mounts.iter().map(|mounted| mounted.point.as_path()).collect();
        for (mounted, opened) in mounts.iter().zip(namespace.open(&points, patience)) {
            let What::Deleted { filesystem, root } = &mounted.what else { continue };
            let hold = namespaces.hold(namespace, mounted);
            let path = self.places.path_of(*filesystem, root);
            match opened.and_then(|fd| statx_fd(fd.as_fd())) {
                Ok(stat) if mounted.is_shown_by(&stat) => {
                    if stat.links == 0 {
                        self.mounted(*filesystem, stat, path, hold);
                    }
                }
                // Another mount lies over it, or there is no way to it: none to unmount it either.
                other => {
                    let hold = KernelHold { mounted: None, ..hold };
                    self.unreached(*filesystem, path, hold, &mounted.point, other.err());
                }
            }
        }
    }

    fn mounted(&mut self, filesystem: usize, stat: Stat, path: Option<PathBuf>, hold: KernelHold) {
        if !self.attach(key(&stat), &hold)
            && let Some(scan) = self.scans.get_mut(filesystem)
        {
            let name = path.map_or(LastName::NotTold, |path| LastName::of_path(path, stat.inode));
            scan.join(vec![Held { stat, name, holds: Vec::new(), kernel: vec![hold] }]);
        }
    }

    fn unreached(
        &mut self,
        filesystem: usize,
        path: Option<PathBuf>,
        hold: KernelHold,
        point: &Path,
        errno: Option<Errno>,
    ) {
        if self.listed.get(filesystem) == Some(&true) {
            self.claims.extend(path.map(|path| Claim::deleted(path, hold)));
        } else if let Some(scan) = self.scans.get_mut(filesystem) {
            scan.skips.push(Skip::new(Kind::Mount, point, errno));
        }
    }

    /// Loop devices whose file has no name any more.
    fn loops(&mut self, patience: &Patience) {
        for device in loops::on_deleted_files(Path::new("/sys/block"), patience) {
            let hold = KernelHold::new(KernelVia::Loop, device.node.to_string_lossy().into_owned());
            let (filesystem, errno) = match device.inode {
                Ok((dev, inode)) if self.attach((dev, None, inode), &hold) => continue,
                Ok((dev, _)) => (self.places.devices.get(&dev).copied(), None),
                Err(Errno::ENXIO) => continue,
                Err(errno) => {
                    let file = device.file.as_deref();
                    (file.and_then(|file| self.places.filesystem_of(file)), Some(errno))
                }
            };
            let Some(filesystem) = filesystem else { continue };
            // What the filesystem does not list has a name left.
            if self.listed.get(filesystem) == Some(&true) {
                let claim = device.file.map(|file| Claim::deleted(file, hold));
                self.claims.extend(claim.filter(|_| errno.is_some()));
            } else if let Some(scan) = self.scans.get_mut(filesystem) {
                scan.skips.push(Skip::new(Kind::LoopDevice, device.node, errno));
            }
        }
    }

    /// Tells of all that know the inode; whether any did.
    fn attach(&mut self, key: Key, hold: &KernelHold) -> bool {
        let inodes = self.scans.iter_mut().flat_map(|scan| &mut scan.held);
        inodes.filter(|inode| inode.key() == key).map(|inode| inode.kernel.push(hold.clone())).count() > 0
    }

    /// A name alone is a weak claim. It counts only where one inode alone had that name, nobody else
    /// holds it, and nothing has taken its place.
    fn settle(&mut self, namespaces: &Namespaces, patience: &Patience) {
        let mut settled: Vec<(Key, KernelHold)> = Vec::new();
        for claim in self.claims.drain(..) {
            let held = self.scans.iter().flat_map(|scan| &scan.held);
            let is_it = |held: &&Held| {
                held.name.path() == Some(&claim.path) && Bytes(held.stat.size) >= claim.longer_than
            };
            let mut named = held.filter(is_it);
            let Some(only) = named.next() else { continue };
            if only.is_attributed() || named.any(|other| other.key() != only.key()) {
                continue;
            }
            let namespace = claim.unless_in.and_then(|number| namespaces.iter().nth(number));
            if namespace.is_none_or(|namespace| namespace.lacks(&claim.path, patience)) {
                settled.push((only.key(), claim.hold));
            }
        }
        for (key, hold) in settled {
            self.attach(key, &hold);
        }
    }
}
