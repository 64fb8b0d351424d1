// SPDX-License-Identifier: MIT OR Apache-2.0

//! Frees a deleted file that mounts alone keep, in whatever mount namespace they are: unmounts them. The
//! calls are made by this program itself; nothing is run that lies in such a namespace.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::commands::assemble;
use crate::commands::refusal::Refusal;
use crate::commands::request::Request;
use crate::commands::survey::{self, PROC};
use crate::commands::verified_file::Wanted;
use crate::filesystems;
use crate::holders::Held;
use crate::holders::kernel::{Reached, reach};
use crate::model::bytes::Bytes;
use crate::model::capability::Capability;
use crate::model::deleted::{DeletedFile, KernelHolder};
use crate::model::escape;
use crate::model::file_spec::FileSpec;
use crate::model::methods::ReleaseMethod;
use crate::mounts::Mounts;
use crate::mounts::locate::{self, Target};
use crate::report::{Released, SCHEMA_VERSION, Tool};
use crate::statvfs;

/// What will be unmounted, and what that frees.
pub struct Plan {
    wanted: Wanted,
    target: Target,
    mounts: Mounts,
    file: DeletedFile,
    found: Vec<(String, Reached)>,
    is_listed: bool,
}

impl Plan {
    /// Finds the file and the mounts that keep it. Refused is what anything else holds, too: unmounting
    /// would free nothing then.
    pub fn make(wanted: &Wanted) -> Result<Self, Refusal> {
        let what = wanted.what;
        let FileSpec::Inode(_) = what else { return Err(Refusal::NoMount(what)) };
        let path = wanted.filesystem.as_deref().ok_or(Refusal::WhichFilesystem(what))?;
        let mounts = locate::read_mounts(filesystems::TRAITS_OF)?;
        let target = locate::holding(path, &mounts, wanted.timeout)?;
        let (held, is_listed) = find(wanted, &target, &mounts)?;
        let held =
            held.ok_or_else(|| Refusal::NotListed { what, mountpoint: target.mount.mountpoint.clone() })?;
        let file = assemble::described(&held, wanted.timeout);
        if let Some(by) = super::notes::process(&file) {
            return Err(Refusal::HeldBesides { what, by });
        }
        let reach_holder = |hold: &KernelHolder| {
            let by = escape::bytes(hold.name.as_bytes());
            let at = hold.mounted.as_ref().ok_or_else(|| Refusal::NoWay { what, by: by.clone() })?;
            let reached = reach(at, Path::new(PROC), wanted.timeout);
            Ok((by.clone(), reached.map_err(|errno| failed(what, &by, errno, wanted.timeout))?))
        };
        let found = held.kernel.iter().map(reach_holder).collect::<Result<Vec<_>, Refusal>>()?;
        if found.is_empty() {
            return Err(Refusal::NoMount(what));
        }
        Ok(Self { wanted: wanted.clone(), target, mounts, file, found, is_listed })
    }

    /// What will be done, as it is shown and as it is reported.
    pub fn shown(&self) -> Released {
        Released {
            schema_version: SCHEMA_VERSION,
            tool: Tool::this(),
            what: self.wanted.what.to_string(),
            // Without a list its number does not name it to `recover`.
            filesystem: self.wanted.filesystem.clone().filter(|_| self.is_listed),
            file: (&self.file).into(),
            method: ReleaseMethod::Unmount,
            done: false,
            freed_bytes: None,
            regained_bytes: None,
            appended_bytes: None,
            notes: Vec::new(),
        }
    }

    /// Unmounts them. The first that fails ends it if nothing was done before; else it is told.
    pub fn carry_out(self) -> Result<Released, Refusal> {
        let (what, timeout) = (self.wanted.what, self.wanted.timeout);
        let filesystem = reopen(&self.target);
        let used = filesystem.as_ref().and_then(|root| Some(statvfs::read(root.as_fd()).ok()?.used));
        let mut failures = Vec::new();
        for (name, mount) in &self.found {
            failures.extend(mount.unmount(timeout).err().map(|errno| failed(what, name, errno, timeout)));
        }
        if failures.len() == self.found.len()
            && let Some(first) = failures.pop()
        {
            return Err(first);
        }
        let freed = if self.is_gone()? { self.file.bytes } else { Bytes::ZERO };
        let regained = filesystem
            .zip(used)
            .and_then(|(root, used)| super::blocks::regained(&root, used, freed, timeout));
        let mut notes: Vec<String> = failures.iter().map(ToString::to_string).collect();
        if freed == Bytes::ZERO && self.file.bytes > Bytes::ZERO && failures.is_empty() {
            notes.push("Something else holds it now: run whyfull again.".to_owned());
        }
        notes.extend(super::notes::on_result(freed, regained, Bytes::ZERO));
        Ok(Released {
            done: failures.is_empty(),
            freed_bytes: Some(freed),
            regained_bytes: regained,
            notes,
            ..self.shown()
        })
    }

    /// Whether nothing holds the file any more. The kernel may take a moment to let go.
    fn is_gone(&self) -> Result<bool, Refusal> {
        const PATIENCE: Duration = Duration::from_secs(1);
        const STEP: Duration = Duration::from_millis(20);
        let clock = Instant::now();
        loop {
            if find(&self.wanted, &self.target, &self.mounts)?.0.is_none() {
                return Ok(true);
            }
            if clock.elapsed() >= PATIENCE.min(self.wanted.timeout) {
                return Ok(false);
            }
            sleep(STEP);
        }
    }
}

/// The inode with that number as a report would list it, and whether the filesystem itself lists it.
fn find(wanted: &Wanted, target: &Target, mounts: &Mounts) -> Result<(Option<Held>, bool), Refusal> {
    let what = wanted.what;
    let request = Request { timeout: wanted.timeout, ..Request::default() };
    let scan = survey::holders(&[Some(target)], mounts, &request)?.pop().unwrap_or_default();
    let is_it =
        |held: &Held| FileSpec::Inode(held.stat.inode) == what && !held.stat.is_in_deleted_subvolume();
    let mut found = scan.held.into_iter().filter(is_it);
    let held = found.next();
    if found.next().is_some() {
        return Err(Refusal::Ambiguous { what, choice: "in several subvolumes".into() });
    }
    Ok((held, scan.listed))
}

fn failed(what: FileSpec, by: &str, errno: Errno, timeout: Duration) -> Refusal {
    let subject = format!("{what}: {by}");
    match errno {
        Errno::EBUSY => Refusal::MountInUse { what, by: by.to_owned() },
        Errno::ESTALE | Errno::ENOENT | Errno::ESRCH => Refusal::OtherMount { what, by: by.to_owned() },
        Errno::ETIMEDOUT => Refusal::NoAnswer { subject, timeout },
        errno => Refusal::denied_or(&subject, errno, &[Capability::SysAdmin]),
    }
}

/// The filesystem's root, for what a descriptor with `O_PATH` does not serve for.
fn reopen(target: &Target) -> Option<File> {
    let root: &Arc<OwnedFd> = target.root.as_ref().ok()?;
    File::open(PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()))).ok()
}
