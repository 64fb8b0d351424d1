// SPDX-License-Identifier: MIT OR Apache-2.0

//! What both commands begin with: which filesystems were asked for, and who holds
//! what on them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use rustc_hash::FxHashSet;

use crate::commands::error::{Error, Result};
use crate::commands::request::Request;
use crate::filesystems::{Listing, Mounted, Unlinked};
use crate::holders::{Found, Held, Places, Scan, kernel, own_pids};
use crate::model::capability::{Capability, Effective};
use crate::model::skips::{Kind, Skip};
use crate::mounts::locate::{self, Target};
use crate::mounts::{Mount, Mounts};
use crate::sys::batch;
use crate::sys::capabilities;
use crate::sys::stat::statx_fd;

/// Where processes are listed.
pub(crate) const PROC: &str = "/proc";

/// The filesystems asked for, each once.
pub(crate) fn targets(request: &Request, mounts: &Mounts) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    let mut add = |target: Target| match targets.iter_mut().find(|other| other.mount.id == target.mount.id) {
        None => targets.push(target),
        Some(known) => {
            for (cover, again) in known.covers.iter_mut().zip(target.covers) {
                cover.listed |= again.listed;
            }
        }
    };
    for path in &request.paths {
        let holding = locate::holding(path, mounts, request.timeout);
        if !request.hidden {
            add(holding?);
        } else if let Some(beneath) = locate::beneath(path, mounts, request.timeout) {
            let covered = |on: &Target| on.mount.id == beneath.covering && !on.covers.is_empty();
            let holding = holding.ok().filter(covered);
            // A mount point that hides nothing, and has others on it, can only mean those.
            if !beneath.is_empty || holding.is_none() {
                add(beneath.target);
            }
            holding.map(listed).into_iter().for_each(&mut add);
        } else {
            add(listed(holding?));
        }
    }
    if request.all {
        let all = locate::all_local(mounts, request.timeout).into_iter();
        all.map(|target| if request.hidden { listed(target) } else { target }).for_each(add);
    }
    Ok(targets)
}

/// The same, with all listed that is hidden on it.
fn listed(mut target: Target) -> Target {
    target.covers.iter_mut().for_each(|cover| cover.listed = true);
    target
}

/// What has no name on each of `targets`, and who holds it: first the filesystems' own lists, which are
/// complete where there are any, then /proc and the kernel's own objects, which tell who.
#[expect(clippy::ref_option_ref, reason = "that is what iterating over a slice of options gives")]
pub(crate) fn holders(targets: &[Option<&Target>], mounts: &Mounts, request: &Request) -> Result<Vec<Scan>> {
    let (listed, damages): (Vec<Option<Listed>>, Vec<Vec<Skip>>) =
        list(targets, request.timeout).into_iter().unzip();
    let none_held = |(target, listed): (&Option<&Target>, &Option<Listed>)| {
        (*target).is_none_or(|_| listed.as_ref().is_some_and(Listed::is_empty))
    };
    if targets.iter().zip(&listed).all(none_held) {
        // Where nothing is held nobody need be asked who holds it.
        return Ok(damages
            .into_iter()
            .map(|skips| Scan { listed: true, skips, ..Scan::default() })
            .collect());
    }
    let places = Arc::new(places(targets, mounts));
    let mut found = scan(targets.len(), &places, mounts, request)?;
    // Of what is not asked for, nothing can be missing.
    let complete: Vec<bool> =
        targets.iter().zip(&listed).map(|(target, listed)| target.is_none() || listed.is_some()).collect();
    for (scan, damages) in found.scans.iter_mut().zip(damages) {
        scan.skips.extend(damages);
    }
    for ((scan, listed), target) in found.scans.iter_mut().zip(listed).zip(targets) {
        let (Some(listed), Some(target)) = (listed, target) else { continue };
        scan.join(listed.inodes);
        scan.listed = true;
        // Their files are in no list.
        let subvolume = Skip::new(Kind::DeletedSubvolume, &target.mount.mountpoint, None);
        scan.skips.extend(std::iter::repeat_n(subvolume, listed.deleted_subvolumes));
    }
    let mut scans = found.look_further(request.threads, request.timeout);
    kernel::attribute(&mut scans, &complete, &places, Path::new(PROC), request.timeout);
    // What was freed between the list and the scan has no holder, and is not held.
    let doubtful = |scan: &Scan| scan.listed && !scan.held.iter().all(Held::is_attributed);
    let again: Vec<Option<&Target>> =
        scans.iter().zip(targets).map(|(scan, target)| target.filter(|_| doubtful(scan))).collect();
    for (scan, (still, _)) in scans.iter_mut().zip(list(&again, request.timeout)) {
        if let Some(still) = still {
            scan.keep(&still.inodes);
        }
    }
    Ok(scans)
}

/// What a filesystem itself lists.
struct Listed {
    /// Those without a name.
    inodes: Vec<Held>,
    /// How many subvolumes have none either.
    deleted_subvolumes: usize,
}

impl Listed {
    fn is_empty(&self) -> bool {
        self.inodes.is_empty() && self.deleted_subvolumes == 0
    }
}

/// What each filesystem itself lists as having no name; `None` where it keeps no list, or none that may
/// be read: then /proc alone has to tell, and what it tells is a lower bound. Also what of the list is damaged.
#[expect(clippy::ref_option_ref, reason = "that is what iterating over a slice of options gives")]
fn list(targets: &[Option<&Target>], timeout: Duration) -> Vec<(Option<Listed>, Vec<Skip>)> {
    let asked = |target: &Option<&Target>| {
        let target = (*target)?;
        Some((target.mount.clone(), Arc::clone(target.root.as_ref().ok()?)))
    };
    let list = |asked: Option<(Mount, Arc<OwnedFd>)>| {
        asked.map(|(mount, root)| list_of(&mount, root.as_fd())).unwrap_or_default()
    };
    let lists = batch::begin(targets.iter().map(asked).collect(), list).wait(timeout);
    lists.into_iter().map(Option::unwrap_or_default).collect()
}

fn list_of(mount: &Mount, root: BorrowedFd<'_>) -> (Option<Listed>, Vec<Skip>) {
    match (Mounted { mount, root }).unlinked() {
        Ok(Listing::Kept { unlinked, damaged, deleted_subvolumes }) => {
            let held = |Unlinked { stat, name }| Held { stat, name, holds: Vec::new(), kernel: Vec::new() };
            let inodes = unlinked.into_iter().map(held).collect();
            let damaged = damaged.into_iter().map(|damaged| damaged.skip(&mount.mountpoint));
            (Some(Listed { inodes, deleted_subvolumes }), damaged.collect())
        }
        Err(unable) if unable.is_damage() => {
            (None, vec![Skip::new(Kind::UnlinkedList, &mount.mountpoint, unable.errno())])
        }
        Ok(Listing::NotKept) | Err(_) => (None, Vec::new()),
    }
}

/// What belongs to which of `targets`.
fn places(targets: &[Option<&Target>], mounts: &Mounts) -> Places {
    let mut places = Places { traits_of: mounts.traits_of(), ..Places::default() };
    for (number, target) in targets.iter().enumerate() {
        let shown = target.map(|target| (target.mount.mountpoint.clone(), target.mount.root.clone()));
        places.shown.push(shown.unwrap_or_default());
        let Some(target) = target else { continue };
        let root = target.root.as_ref().ok().and_then(|root| statx_fd(root.as_fd()).ok());
        let root = root.map(|stat| stat.dev);
        places.devices.extend(root.into_iter().chain([target.mount.dev]).map(|dev| (dev, number)));
        let same = mounts.iter().filter(|mount| mount.dev == target.mount.dev);
        places.mounts.extend(same.map(|mount| (mount.id, number)));
    }
    places.served = served(mounts);
    places.mount_points = mount_points(mounts);
    places
}

/// What processes hold in each of so many places: one scan of /proc for all. That takes no answer from
/// the filesystem, and no path that leads to it.
fn scan(count: usize, places: &Arc<Places>, mounts: &Mounts, request: &Request) -> Result<Found> {
    let scanned = crate::holders::scan(Path::new(PROC), places, request.threads, request.timeout);
    let mut found = scanned.map_err(|errno| Error::Proc(errno.into()))?;
    found.scans.resize_with(count, Scan::default);
    if hides_processes(mounts) {
        for scan in &mut found.scans {
            scan.skips.push(Skip::new(Kind::Unlisted, PROC, Errno::EPERM));
        }
    }
    Ok(found)
}

/// All who hold the one inode of `file`, whatever filesystem it is on, besides those that are known.
pub(crate) fn holders_of(file: Held, mounts: &Mounts, timeout: Duration) -> Result<(Held, Vec<Skip>)> {
    let mut places = Places {
        mount_points: mount_points(mounts),
        served: served(mounts),
        traits_of: mounts.traits_of(),
        ..Places::default()
    };
    places.devices.insert(file.stat.dev, 0);
    let places = Arc::new(places);
    let found = crate::holders::scan(Path::new(PROC), &places, None, timeout);
    let mut found = found.map_err(|errno| Error::Proc(errno.into()))?;
    let mut scan = found.scans.pop().unwrap_or_default();
    scan.held.retain(|held| held.stat.identity() == file.stat.identity());
    // Not the descriptor through which it was opened.
    let own = own_pids(Path::new(PROC));
    scan.held.iter_mut().for_each(|held| held.holds.retain(|hold| !own.contains(&hold.pid)));
    scan.join(vec![file.clone()]);
    // Of this inode no more can be missing.
    scan.listed = true;
    found.scans = vec![scan];
    let mut scans = found.look_further(None, timeout);
    kernel::attribute(&mut scans, &[true], &places, Path::new(PROC), timeout);
    let scan = scans.pop().unwrap_or_default();
    Ok((scan.held.into_iter().next().unwrap_or(file), scan.skips))
}

fn served(mounts: &Mounts) -> FxHashSet<u64> {
    mounts.iter().filter(|mount| mount.asks_a_server()).map(|mount| mount.id).collect()
}

fn mount_points(mounts: &Mounts) -> Vec<(PathBuf, u64)> {
    mounts.iter().map(|mount| (mount.mountpoint.clone(), mount.id)).collect()
}

/// Whether /proc is mounted so that it lists others' processes only to those who may look into
/// them: `hidepid` in proc(5).
fn hides_processes(mounts: &Mounts) -> bool {
    let proc = mounts.iter().filter(|mount| mount.mountpoint == Path::new(PROC)).last();
    let hidepid = proc.and_then(|proc| proc.option("hidepid"));
    let shows = ["0", "off", "1", "noaccess"].map(str::as_bytes);
    hidepid.is_some_and(|value| !shows.contains(&value.as_slice()))
        && !Effective::of(capabilities::effective()).has(Capability::SysPtrace)
}
