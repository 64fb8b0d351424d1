//! What both commands begin with: which filesystems were asked for, and who holds
//! what on them.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;

use crate::capability::{Capability, Effective};
use crate::error::{Error, Result};
use crate::explain::Request;
use crate::holders::{Places, Scan};
use crate::mounts::Mounts;
use crate::mounts::locate::{self, Target};
use crate::skip::{Kind, Skip};
use crate::sys::stat::statx_fd;

/// Where processes are listed.
pub(crate) const PROC: &str = "/proc";

/// The filesystems asked for, each once.
pub(crate) fn targets(request: &Request, mounts: &Mounts) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    let mut add = |target: Target| {
        if !targets.iter().any(|other| other.mount.id == target.mount.id) {
            targets.push(target);
        }
    };
    for path in &request.paths {
        add(locate::holding(path, mounts, request.timeout)?);
    }
    if request.all {
        locate::all_local(mounts, request.timeout).into_iter().for_each(add);
    }
    Ok(targets)
}

/// Who holds what has no name on each of `targets`: one scan of /proc for all. That takes no answer from
/// the filesystem, and no path that leads to it.
pub(crate) fn holders(targets: &[Option<&Target>], mounts: &Mounts, request: &Request) -> Result<Vec<Scan>> {
    let mut places = Places::default();
    for (number, target) in targets.iter().enumerate() {
        let Some(target) = target else { continue };
        let root = target.root.as_ref().ok().and_then(|root| statx_fd(root.as_fd()).ok());
        let root = root.map(|stat| stat.dev);
        places.devices.extend(root.into_iter().chain([target.mount.dev]).map(|dev| (dev, number)));
        let same = mounts.iter().filter(|mount| mount.dev == target.mount.dev);
        places.mounts.extend(same.map(|mount| (mount.id, number)));
    }
    places.served = mounts.iter().filter(|mount| mount.asks_a_server()).map(|mount| mount.id).collect();
    places.mount_points = mounts.iter().map(|mount| (mount.mountpoint.clone(), mount.id)).collect();
    let scanned = crate::holders::scan(Path::new(PROC), places, request.threads, request.timeout);
    let mut scans = scanned.map_err(|errno| Error::Proc(errno.into()))?;
    scans.resize_with(targets.len(), Scan::default);
    if hides_processes(mounts) {
        for scan in &mut scans {
            scan.skips.push(Skip::new(Kind::Unlisted, PROC, Errno::EPERM));
        }
    }
    Ok(scans)
}

/// Whether /proc is mounted so that it lists others' processes only to those who may look into
/// them: `hidepid` in proc(5).
fn hides_processes(mounts: &Mounts) -> bool {
    let proc = mounts.iter().filter(|mount| mount.mountpoint == Path::new(PROC)).last();
    let hidepid = proc.and_then(|proc| proc.option("hidepid"));
    let shows = ["0", "off", "1", "noaccess"].map(str::as_bytes);
    hidepid.is_some_and(|value| !shows.contains(&value.as_slice()))
        && !Effective::current().has(Capability::SysPtrace)
}
