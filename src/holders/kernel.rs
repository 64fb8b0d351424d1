// SPDX-License-Identifier: MIT OR Apache-2.0

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
use crate::model::deleted::{KernelHolder, KernelVia};
use crate::model::last_name::LastName;
use crate::model::skips::{Kind, Skip};
use crate::sys::stat::{Stat, statx_fd};
use namespaces::{Interest, Mounted, Namespace, Namespaces};
pub use unmount::{Reached, reach};

/// Something that holds a file of which only the name is known.
#[derive(Debug)]
struct Claim {
    /// The name that the file had.
    path: PathBuf,
    hold: KernelHolder,
    /// Where that name must lead nowhere, by the number of the namespace. Else the kernel has said itself
    /// that it is gone.
    unless_in: Option<usize>,
    /// What is known of the file's length.
    longer_than: Bytes,
}

impl Claim {
    /// One of which the kernel says that the name is gone, and no more.
    fn deleted(path: PathBuf, hold: KernelHolder) -> Self {
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
        attribution.resolve_claims(&namespaces, patience);
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
        let deleted = |mounted: &&Mounted| matches!(mounted.interest, Interest::Deleted { .. });
        let mounts: Vec<&Mounted> = namespace.mounts.iter().filter(deleted).collect();
        if mounts.is_empty() {
            return;
        }
        let points: Vec<&Path> = mounts.iter().map(|mounted| mounted.point.as_path()).collect();
        for (mounted, opened) in mounts.iter().zip(namespace.open(&points, patience)) {
            let Interest::Deleted { filesystem, root } = &mounted.interest else { continue };
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
                    let hold = KernelHolder { mounted: None, ..hold };
                    self.unreached(*filesystem, path, hold, &mounted.point, other.err());
                }
            }
        }
    }

    fn mounted(&mut self, filesystem: usize, stat: Stat, path: Option<PathBuf>, hold: KernelHolder) {
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
        hold: KernelHolder,
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
            let hold = KernelHolder::new(KernelVia::Loop, device.node.to_string_lossy().into_owned());
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
    fn attach(&mut self, key: Key, hold: &KernelHolder) -> bool {
        let inodes = self.scans.iter_mut().flat_map(|scan| &mut scan.held);
        inodes.filter(|inode| inode.key() == key).map(|inode| inode.kernel.push(hold.clone())).count() > 0
    }

    /// A name alone is a weak claim. It counts only where one inode alone had that name, nobody else
    /// holds it, and nothing has taken its place.
    fn resolve_claims(&mut self, namespaces: &Namespaces, patience: &Patience) {
        let mut resolved: Vec<(Key, KernelHolder)> = Vec::new();
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
                resolved.push((only.key(), claim.hold));
            }
        }
        for (key, hold) in resolved {
            self.attach(key, &hold);
        }
    }
}
