// SPDX-License-Identifier: MIT OR Apache-2.0

//! Counts what lies below the root of a filesystem: from below where that can be done, else from above. Both
//! may meet a disk or a server that does not answer.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::result;
use std::sync::Arc;

use nix::errno::Errno;

use crate::commands::error::{Error, Result};
use crate::commands::request::{Method, Request};
use crate::filesystems::{self, Internal, Mounted, Unable, errors};
use crate::model::monitor::Monitor;
use crate::model::usage::{Census, MountPoint, Options, Tally};
use crate::mounts::Mount;
use crate::mounts::locate::Target;
use crate::mounts::whole::whole;
use crate::sys::batch;
use crate::sys::detached::while_it_moves;
use crate::walk;

/// What was counted of one filesystem, and how.
pub(crate) struct Counted {
    pub(crate) census: result::Result<Census, Errno>,
    /// What the filesystem needs besides, where that can be read.
    pub(crate) internal: Option<Internal>,
    /// Whether it was read from the inode tables; where it might have been and was not, why.
    pub(crate) from_tables: bool,
    pub(crate) unable: Option<Unable>,
    pub(crate) damage: Damage,
}

/// What is known of damage besides what could not be read.
#[derive(Default)]
pub(crate) struct Damage {
    /// The inode tables or the directories make no sense.
    pub(crate) tables: bool,
    /// What the kernel has met meanwhile.
    pub(crate) met: errors::Met,
}

impl Counted {
    /// Nothing, for that reason.
    pub(crate) fn none(errno: Errno) -> Self {
        let damage = Damage::default();
        Self { census: Err(errno), internal: None, from_tables: false, unable: None, damage }
    }

    /// What has names by its own count of them, and was not met. `None` where not every name was looked at.
    pub(crate) fn without_a_way(&self) -> Option<Tally> {
        let (census, internal) = (self.census.as_ref().ok()?, self.internal.as_ref()?);
        let (hidden, outside) = (census.hidden.as_ref().ok()?, census.outside.as_ref().ok()?);
        let mut met = census.visible;
        hidden.iter().chain(outside).for_each(|part| met.add(part.tally));
        let Tally { bytes, inodes } = internal.named;
        let lost =
            Tally { bytes: bytes.saturating_sub(met.bytes), inodes: inodes.saturating_sub(met.inodes) };
        census.skips.is_empty().then_some(lost)
    }
}

/// Has the filesystems write out what their own records do not have yet. Where that does not end soon, the
/// report says how much it is.
pub(crate) fn sync_out(targets: &[Target], request: &Request) {
    if request.method == Method::Walk {
        return;
    }
    let root = |target: &Target| Some((target.mount.clone(), Arc::clone(target.root.as_ref().ok()?)));
    let timeout = request.timeout / 2;
    let sync_out = move |(mount, root): (Mount, Arc<OwnedFd>)| {
        Mounted { mount: &mount, root: root.as_fd() }.sync_out(timeout);
    };
    batch::begin(targets.iter().filter_map(root).collect(), sync_out).wait(request.timeout);
}

/// Counts it. An error where only the inode tables would do, and do not.
pub(crate) fn count(target: &Target, request: &Request, monitor: &Monitor) -> Result<Counted> {
    let (mut unable, mut known) = (None, None);
    if request.method != Method::Walk {
        match from_below(target, request, monitor) {
            Ok((census, internal)) => {
                let (census, internal) = (Ok(census), Some(internal));
                return Ok(Counted { census, internal, from_tables: true, ..Counted::none(Errno::EIO) });
            }
            Err(reason) if request.method == Method::Table => {
                return Err(Error::Tables { mountpoint: target.mount.mountpoint.clone(), reason });
            }
            // There is no other way that it would be worth telling of.
            Err(Unable::Filesystem(_)) => {}
            Err(mut reason) => {
                if let Unable::Damaged { known: internal, .. } = &mut reason {
                    known = internal.take();
                }
                unable = Some(reason);
            }
        }
    }
    let root = target.root.as_ref().ok();
    let watch = root.map(|root| errors::Watch::begin(Mounted { mount: &target.mount, root: root.as_fd() }));
    let census = from_above(target, request, monitor);
    let internal = match known {
        Some(internal) => Ok(*internal),
        None if unable == Some(NO_ANSWER) => Err(NO_ANSWER),
        None => internal(target, request, monitor),
    };
    let is_damaged = |unable: Option<&Unable>| matches!(unable, Some(Unable::Damaged { .. }));
    let damage = Damage {
        tables: is_damaged(unable.as_ref()) || is_damaged(internal.as_ref().err()),
        met: watch.map(errors::Watch::end).unwrap_or_default(),
    };
    Ok(Counted { census, internal: internal.ok(), from_tables: false, unable, damage })
}

/// The device of the filesystem is dead.
const NO_ANSWER: Unable = Unable::Read(Errno::ETIMEDOUT);

#[expect(clippy::redundant_closure_for_method_calls, reason = "the method is one of one lifetime")]
fn from_below(
    target: &Target,
    request: &Request,
    monitor: &Monitor,
) -> result::Result<(Census, Internal), Unable> {
    ask(target, request, monitor, |on, asked| on.census(asked))
}

/// What the filesystem keeps for itself, where names were walked.
#[expect(clippy::redundant_closure_for_method_calls, reason = "the method is one of one lifetime")]
fn internal(target: &Target, request: &Request, monitor: &Monitor) -> result::Result<Internal, Unable> {
    ask(target, request, monitor, |on, asked| on.internal(asked))
}

/// Asks the filesystem's driver, for as long as its device answers.
fn ask<T: Send + 'static>(
    target: &Target,
    request: &Request,
    monitor: &Monitor,
    question: fn(Mounted<'_>, &filesystems::Request<'_>) -> result::Result<T, Unable>,
) -> result::Result<T, Unable> {
    let root = target.root.as_ref().map_err(|errno| Unable::Refused(*errno))?;
    let (mount, root, shared) = (target.mount.clone(), Arc::clone(root), monitor.clone());
    let asked = Asked::new(target, request);
    let read = move || {
        let (mount_points, options) = (asked.mount_points(), asked.options());
        let request = filesystems::Request { mount_points: &mount_points, options, monitor: &shared };
        question(Mounted { mount: &mount, root: root.as_fd() }, &request)
    };
    while_it_moves(|| monitor.state(), || monitor.patience(request.timeout), read).unwrap_or(Err(NO_ANSWER))
}

fn from_above(target: &Target, request: &Request, monitor: &Monitor) -> result::Result<Census, Errno> {
    let descriptor = target.root.as_ref().map_err(|errno| *errno)?;
    let whole = whole(&target.mount, descriptor, request.timeout);
    let asked = Asked::new(target, request);
    let root = walk::Root {
        descriptor,
        path: &target.mount.mountpoint,
        mount_points: &asked.mount_points(),
        whole: whole.as_ref().map(Option::as_ref).map_err(|errno| *errno),
        devices_lie: target.mount.is_overlay(),
    };
    walk::walk(root, asked.options(), request.timeout, monitor)
}

/// What is asked for, for whoever may be left behind with it.
struct Asked {
    request: Request,
    /// Relative to the root, and whether their names are listed.
    covers: Vec<(PathBuf, bool)>,
    watched: Vec<u64>,
}

impl Asked {
    fn new(target: &Target, request: &Request) -> Self {
        let covers = target.covers.iter().map(|cover| (cover.relative.clone(), cover.listed)).collect();
        let watched = target.overlay.as_ref().map(|overlay| overlay.inodes.clone()).unwrap_or_default();
        Self { request: Request { paths: Vec::new(), ..request.clone() }, covers, watched }
    }

    fn mount_points(&self) -> Vec<MountPoint<'_>> {
        self.covers.iter().map(|(path, listed)| MountPoint { path, listed: *listed }).collect()
    }

    fn options(&self) -> Options<'_> {
        let Request { threads, directories, depth, names, .. } = self.request;
        Options { threads, directories, depth, names, watched: &self.watched }
    }
}
