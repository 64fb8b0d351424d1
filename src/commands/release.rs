// SPDX-License-Identifier: MIT OR Apache-2.0

//! Frees the blocks of a deleted file while the program that holds it runs on. First
//! a plan, which is shown; what is then acted on is the descriptor that the plan was made with, and no more of
//! the file than was shown.

mod blocks;
mod changes;
mod notes;
pub mod unmount;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::commands::assemble;
use crate::commands::refusal::Refusal;
use crate::commands::survey;
use crate::commands::verified_file::{Opened, Wanted};
use crate::filesystems;
use crate::holders::Held;
use crate::model::bytes::Bytes;
use crate::model::capability::Capability;
use crate::model::deleted::{DeletedFile, Via};
use crate::model::file_spec::{FileSpec, Handle};
use crate::model::methods::ReleaseMethod;
use crate::model::monitor::Monitor;
use crate::mounts::Mounts;
use crate::mounts::locate;
use crate::report::{Released, SCHEMA_VERSION, Tool};
use crate::statvfs;
use crate::sys::pidfd;
use crate::sys::stat::{Stat, statx_fd};
use changes::Changes;

/// What to release, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The file.
    pub wanted: Wanted,
    /// Truncate instead of punching a hole.
    pub truncate: bool,
    /// Also what destroys more than the file's data: a loop device's disk, programs that have it mapped.
    pub force: bool,
}

/// What will be done, to what, and who is concerned.
pub struct Plan {
    request: Request,
    opened: Opened,
    seen: Examined,
}

/// The file and those who hold it, as they are shown.
struct Examined {
    stat: Stat,
    means: Means,
    file: DeletedFile,
    notes: Vec<String>,
}

/// What another look has shown.
pub struct News {
    seen: Examined,
    changes: Changes,
}

impl News {
    /// How that differs from the plan.
    pub fn changes(&self) -> Changes {
        self.changes
    }
}

/// How it will be done.
enum Means {
    PunchHole,
    /// Through the writer's own open file description, so that its offset can be set back.
    Truncate(OwnedFd),
}

impl Plan {
    /// Finds the file and who holds it, and checks everything that can be checked before anything is
    /// done.
    pub fn make(request: &Request, monitor: &Monitor) -> Result<Self, Refusal> {
        let mounts = locate::read_mounts(filesystems::TRAITS_OF)?;
        let opened = Opened::open(&request.wanted, &mounts)?;
        monitor.beat();
        let seen = Examined::of(&opened, request, &mounts)?;
        Ok(Self { request: request.clone(), opened, seen })
    }

    /// Looks at it once more, with the same checks.
    pub fn look_again(&self, monitor: &Monitor) -> Result<News, Refusal> {
        let seen = Examined::of(&self.opened, &self.request, &locate::read_mounts(filesystems::TRAITS_OF)?)?;
        monitor.beat();
        let before = (&self.seen.stat, &self.seen.file);
        let changes = Changes::between(before, (&seen.stat, &seen.file));
        Ok(News { seen, changes })
    }

    /// Makes that the plan.
    pub fn adopt(&mut self, news: News) {
        self.seen = news.seen;
    }

    /// What will be done, as it is shown and as it is reported.
    pub fn shown(&self) -> Released {
        Released {
            schema_version: SCHEMA_VERSION,
            tool: Tool::this(),
            what: self.opened.what.to_string(),
            filesystem: self.request.wanted.filesystem.clone(),
            file: (&self.seen.file).into(),
            method: self.seen.means.method(),
            done: false,
            freed_bytes: None,
            regained_bytes: None,
            appended_bytes: None,
            notes: self.seen.notes.clone(),
        }
    }

    /// Does it, unless the file has got a name since. What has come behind the end that was shown stays: then it
    /// is not truncated, but what was shown becomes a hole. `monitor` shows that it goes on.
    pub fn carry_out(self, monitor: &Monitor) -> Result<Released, Refusal> {
        monitor.settle(true);
        let (what, shown) = (self.opened.what, self.seen.stat);
        let failed = |errno| match errno {
            Errno::ETXTBSY => Refusal::InUse(what),
            Errno::EOPNOTSUPP => Refusal::NoHoles(what),
            errno => Refusal::denied_or(&what, errno, &[Capability::DacOverride]),
        };
        let before = self.opened.check()?;
        let appended = Bytes(before.size).saturating_sub(Bytes(shown.size));
        let (file, method) = match &self.seen.means {
            Means::Truncate(description) if appended == Bytes::ZERO => {
                let failed = |source| Refusal::System { subject: what.to_string(), source };
                (description.try_clone().map(File::from).map_err(failed)?, ReleaseMethod::Truncate)
            }
            Means::Truncate(_) | Means::PunchHole => (self.opened.writer()?, ReleaseMethod::PunchHole),
        };
        let _watch = blocks::watch(&file, monitor);
        let used = statvfs::read(file.as_fd()).map_err(failed)?.used;
        let done = match method {
            ReleaseMethod::Truncate => blocks::empty(&file),
            _ => blocks::punch(&file, shown.size),
        };
        done.map_err(failed)?;
        let after = statx_fd(file.as_fd()).map_err(failed)?;
        let freed = Bytes(before.allocated).saturating_sub(Bytes(after.allocated));
        let regained = blocks::regained(&file, used, freed, self.request.wanted.timeout);
        let is_as_asked = method == self.seen.means.method();
        let mut notes = notes::on_growth(appended, is_as_asked);
        notes.extend(notes::on_result(freed, regained, Bytes(after.allocated)));
        Ok(Released {
            method,
            done: true,
            freed_bytes: Some(freed),
            regained_bytes: regained,
            appended_bytes: Some(appended),
            notes,
            ..self.shown()
        })
    }
}

impl Examined {
    fn of(opened: &Opened, request: &Request, mounts: &Mounts) -> Result<Self, Refusal> {
        let Request { wanted, truncate, force } = request;
        let what = wanted.what;
        let mut held = opened.held();
        if !opened.is_held() {
            held.holds.clear();
        }
        let (held, skips) = survey::holders_of(held, mounts, wanted.timeout)?;
        if held.holds.iter().any(|hold| hold.via == Via::Executable) {
            return Err(Refusal::Running(what));
        }
        let means = if *truncate {
            Means::Truncate(writers_own(opened)?)
        } else {
            opened.may_be_written()?;
            Means::PunchHole
        };
        // As late as it can be: what comes after this is not what is shown.
        let stat = opened.check()?;
        let file = assemble::described(&Held { stat, name: opened.name.clone(), ..held }, wanted.timeout);
        if !force {
            spare_others(opened, &file, &means)?;
            if !opened.is_on_a_mount(mounts) {
                return Err(Refusal::NotMounted(what));
            }
        }
        let notes = notes::of(&file, means.method(), skips.len());
        Ok(Self { stat, means, file, notes })
    }
}

impl Means {
    fn method(&self) -> ReleaseMethod {
        match self {
            Self::PunchHole => ReleaseMethod::PunchHole,
            Self::Truncate(_) => ReleaseMethod::Truncate,
        }
    }
}

/// Refuses what would harm more than the file.
fn spare_others(opened: &Opened, file: &DeletedFile, means: &Means) -> Result<(), Refusal> {
    let what = opened.what;
    if let Some(by) = notes::kernel(file) {
        return Err(Refusal::InKernel { what, by });
    }
    if let (Means::Truncate(_), Some(by)) = (means, notes::mapped_by(file)) {
        return Err(Refusal::Mapped { what, by });
    }
    Ok(())
}

/// The open file description behind the holder's descriptor, if it is open for writing.
fn writers_own(opened: &Opened) -> Result<OwnedFd, Refusal> {
    let what = opened.what;
    let (FileSpec::Held { handle: Handle::Descriptor(number), .. }, Some(task)) = (what, &opened.task) else {
        return Err(Refusal::NoWriter(what));
    };
    let failed = |errno| match errno {
        Errno::ESRCH => Refusal::NoProcess(what),
        Errno::EBADF => Refusal::NotHeld(what),
        errno => Refusal::denied_or(&what, errno, &[Capability::SysPtrace]),
    };
    let description = task.pidfd().and_then(|task| pidfd::get(task.as_fd(), number)).map_err(failed)?;
    let found = statx_fd(description.as_fd()).map_err(failed)?;
    if found.identity() != opened.stat.identity() {
        let (expected, found) = (opened.stat.inode, found.inode);
        return Err(Refusal::OtherInode { what, expected, found });
    }
    let flags = fcntl(&description, FcntlArg::F_GETFL).map(OFlag::from_bits_retain).map_err(failed)?;
    let for_writing = flags.intersects(OFlag::O_WRONLY | OFlag::O_RDWR) && !flags.contains(OFlag::O_PATH);
    if for_writing { Ok(description) } else { Err(Refusal::NoWriter(what)) }
}
