//! Frees the blocks of a deleted file while the program that holds it runs on. First
//! a plan, which is shown; what is then acted on is the descriptor that the plan was made with.

mod notes;
pub mod unmount;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};
use nix::unistd::{Whence, ftruncate, lseek, syncfs};

use crate::commands::assemble;
use crate::commands::refusal::Refusal;
use crate::commands::survey;
use crate::commands::verified_file::{Opened, Wanted};
use crate::holders::Held;
use crate::model::bytes::{Bytes, Gap};
use crate::model::capability::Capability;
use crate::model::deleted::{DeletedFile, Via};
use crate::model::file_spec::{FileSpec, Handle};
use crate::model::methods::ReleaseMethod;
use crate::mounts::locate;
use crate::report::{Released, SCHEMA_VERSION, Tool};
use crate::statvfs;
use crate::sys::detached::within;
use crate::sys::pidfd;
use crate::sys::stat::{Stat, statx_fd};

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
    opened: Opened,
    means: Means,
    file: DeletedFile,
    notes: Vec<String>,
    filesystem: Option<PathBuf>,
    timeout: Duration,
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
    pub fn make(request: &Request) -> Result<Self, Refusal> {
        let Request { wanted, truncate, force } = request;
        let what = wanted.what;
        let mounts = locate::read_mounts()?;
        let opened = Opened::open(wanted, &mounts)?;
        let (held, skips) = survey::holders_of(opened.held(), &mounts, wanted.timeout)?;
        if held.holds.iter().any(|hold| hold.via == Via::Executable) {
            return Err(Refusal::Running(what));
        }
        let means = if *truncate {
            Means::Truncate(writers_own(&opened)?)
        } else {
            opened.may_be_written()?;
            Means::PunchHole
        };
        let file = assemble::described(&Held { path: opened.path.clone(), ..held }, wanted.timeout);
        if !force {
            spare_others(&opened, &file, &means)?;
            if !opened.is_on_a_mount(&mounts) {
                return Err(Refusal::NotMounted(what));
            }
        }
        let notes = notes::of(&file, means.method(), skips.len());
        let filesystem = wanted.filesystem.clone();
        Ok(Self { opened, means, file, notes, filesystem, timeout: wanted.timeout })
    }

    /// What will be done, as it is shown and as it is reported.
    pub fn shown(&self) -> Released {
        Released {
            schema_version: SCHEMA_VERSION,
            tool: Tool::this(),
            what: self.opened.what.to_string(),
            filesystem: self.filesystem.clone(),
            file: (&self.file).into(),
            method: self.means.method(),
            done: false,
            freed_bytes: None,
            regained_bytes: None,
            notes: self.notes.clone(),
        }
    }

    /// Does it, unless the file has got a name since.
    pub fn carry_out(self) -> Result<Released, Refusal> {
        let what = self.opened.what;
        let failed = |errno| match errno {
            Errno::ETXTBSY => Refusal::InUse(what),
            Errno::EOPNOTSUPP => Refusal::NoHoles(what),
            errno => Refusal::denied_or(&what, errno, &[Capability::DacOverride]),
        };
        let file = match &self.means {
            Means::PunchHole => self.opened.writer()?,
            Means::Truncate(description) => description
                .try_clone()
                .map(File::from)
                .map_err(|error| Refusal::System { subject: what.to_string(), source: error })?,
        };
        let before = self.opened.check()?;
        let used = statvfs::read(file.as_fd()).map_err(failed)?.used;
        match &self.means {
            Means::PunchHole => punch(&file, &before).map_err(failed)?,
            Means::Truncate(_) => empty(&file).map_err(failed)?,
        }
        let after = statx_fd(file.as_fd()).map_err(failed)?;
        let freed = Bytes(before.allocated).saturating_sub(Bytes(after.allocated));
        let regained = regained(&file, used, freed, self.timeout);
        Ok(Released {
            done: true,
            freed_bytes: Some(freed),
            regained_bytes: regained,
            notes: notes::on_result(freed, regained, Bytes(after.allocated)),
            ..self.shown()
        })
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

/// Frees all blocks and keeps size and offsets.
fn punch(file: &File, before: &Stat) -> Result<(), Errno> {
    /// The last block is freed only as a whole; no filesystem has larger ones.
    const ALIGNMENT: u64 = 1 << 20;
    let hole = |length: u64| {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(file, flags, 0, i64::try_from(length).map_err(|_| Errno::EFBIG)?)
    };
    if before.size > 0 {
        match hole(before.size.next_multiple_of(ALIGNMENT)) {
            // Beyond the largest file that the filesystem can have.
            Err(Errno::EFBIG) => hole(before.size)?,
            result => result?,
        }
    }
    // What is allocated beyond the end is not in the hole, on ext4 in no hole (fs/ext4/inode.c,
    // `ext4_punch_hole`): setting the size that the file has anyway frees it. Not when it has just
    // grown, which would cut off what was written.
    let now = statx_fd(file.as_fd())?;
    if now.allocated > 0 && now.size == before.size {
        ftruncate(file, i64::try_from(now.size).map_err(|_| Errno::EFBIG)?)?;
    }
    Ok(())
}

/// Empties it and lets its writer go on at the beginning. The offset first: what is written between the
/// two calls is lost with all the rest. The other way round it would land far behind the new end.
fn empty(description: &File) -> Result<(), Errno> {
    lseek(description, 0, Whence::SeekSet)?;
    ftruncate(description, 0)
}

/// By how much less of the filesystem is in use. btrfs frees at its next commit, and others may finish
/// in the background: then it is asked to write out, and looked at again, for no longer than `timeout`.
fn regained(file: &File, before: Bytes, freed: Bytes, timeout: Duration) -> Option<Gap> {
    /// Long enough for a transaction that is on its way.
    const PATIENCE: Duration = Duration::from_secs(1);
    const STEP: Duration = Duration::from_millis(20);
    let look = || statvfs::read(file.as_fd()).ok().map(|capacity| before - capacity.used);
    let has_come = |regained: Option<Gap>| regained.is_some_and(|regained| regained >= Gap::from(freed));
    let mut regained = look();
    if has_come(regained) {
        return regained;
    }
    if let Ok(file) = file.try_clone() {
        // No answer in time: what is regained by then is told.
        let _ = within(timeout, move || syncfs(&file));
    }
    let clock = Instant::now();
    regained = look();
    while !has_come(regained) && clock.elapsed() < PATIENCE.min(timeout) {
        sleep(STEP);
        regained = look();
    }
    regained
}
