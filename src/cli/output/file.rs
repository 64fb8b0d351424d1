// SPDX-License-Identifier: MIT OR Apache-2.0

//! `-o FILE`: a file that is made, or replaced by a new one that takes nothing over from what somebody else
//! may have put there; or a FIFO or device that is written to.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{FileStat, Mode, fstat, umask};
use nix::unistd::{AccessFlags, Gid, faccessat, fchown, getegid, geteuid};

use super::super::stream::write_all;
use crate::commands::destination::{Directory, Found, LastLink, Temporary, file_type, find};
use crate::commands::refusal::Refusal;
use crate::model::errno::errno;
use crate::model::escape;

/// What a new file may be, before the umask.
const NEW_FILE: u32 = 0o666;

/// Where FILE leads.
pub(super) enum Target {
    /// To a name in a directory: of no file yet, or of one that is replaced.
    File(ReportFile),
    /// To a FIFO, device or socket.
    Special(Special),
    /// To a descriptor of this process.
    Descriptor(i32),
}

/// A step towards the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The new file is there, or has got some further.
    Next,
    /// It goes to the disk, which may well take its time.
    ToDisk,
}

/// Follows `path` and checks what can be checked before there is a report.
pub(super) fn find_target(path: &Path) -> Result<Target, Refusal> {
    let failed = |errno| Refusal::system(&escape::path(path), errno);
    match find(path, LastLink::Follow)? {
        Found::Directory(_) => Err(failed(Errno::EISDIR)),
        Found::Descriptor(number) => Ok(Target::Descriptor(number)),
        Found::Open(there) if is_file(&there).map_err(failed)? => {
            Err(Refusal::NotReplaceable(path.to_owned()))
        }
        Found::Open(there) => Ok(Target::Special(Special { there, path: path.to_owned() })),
        Found::Name(directory, _, Some(there)) if !is_file(&there).map_err(failed)? => {
            let stat = fstat(&there).map_err(failed)?;
            // Like fs.protected_fifos, proc_sys_fs(5), but for every kind and whatever that says.
            let is_own = stat.st_uid == geteuid().as_raw() && stat.st_nlink == 1;
            if !directory.is_trusted() && !is_own {
                return Err(Refusal::Planted(path.to_owned()));
            }
            Ok(Target::Special(Special { there, path: path.to_owned() }))
        }
        Found::Name(directory, name, there) => {
            let flags = AccessFlags::W_OK | AccessFlags::X_OK;
            faccessat(&directory, ".", flags, AtFlags::AT_EACCESS).map_err(failed)?;
            if let Some(there) = there {
                may_replace(&directory, &fstat(&there).map_err(failed)?).map_err(failed)?;
            }
            // Nobody can read it without setting it.
            let mask = umask(Mode::empty());
            umask(mask);
            let mode = NEW_FILE & !mask.bits();
            Ok(Target::File(ReportFile { directory, name, mode, path: path.to_owned() }))
        }
    }
}

fn is_file(there: &OwnedFd) -> Result<bool, Errno> {
    fstat(there).map(|stat| file_type(&stat) == libc::S_IFREG)
}

/// In a sticky directory only its owner and the file's, and root, replace a file: inode(7).
fn may_replace(directory: &Directory, there: &FileStat) -> Result<(), Errno> {
    let user = geteuid();
    let parent = fstat(directory.as_fd())?;
    let is_sticky = parent.st_mode & libc::S_ISVTX != 0;
    let owns = there.st_uid == user.as_raw() || parent.st_uid == user.as_raw() || user.is_root();
    if is_sticky && !owns { Err(Errno::EPERM) } else { Ok(()) }
}

/// A file that is made, or replaced.
pub(in crate::cli) struct ReportFile {
    directory: Directory,
    name: OsString,
    /// What a new file's mode is.
    mode: u32,
    path: PathBuf,
}

impl ReportFile {
    /// Writes a new file and gives it its name. Asks before each step whether to go on.
    pub(super) fn write(self, bytes: &[u8], goes_on: impl Fn(Step) -> bool) -> Result<(), Refusal> {
        self.place(bytes, &goes_on).map_err(|errno| Refusal::system(&escape::path(&self.path), errno))
    }

    fn place(&self, bytes: &[u8], goes_on: &impl Fn(Step) -> bool) -> Result<(), Errno> {
        let step = |step| if goes_on(step) { Ok(()) } else { Err(Errno::ECANCELED) };
        let temporary = Temporary::new(&self.directory)?;
        step(Step::Next)?;
        temporary.file().write_all(bytes).map_err(|error| errno(&error))?;
        step(Step::Next)?;
        self.give_mode(temporary.file())?;
        step(Step::ToDisk)?;
        // A server may report only now that its disk is full.
        temporary.file().sync_all().map_err(|error| errno(&error))?;
        step(Step::Next)?;
        temporary.publish(&self.name, true)
    }

    /// Gives it the mode of a new file, or that of the caller's own file that it replaces.
    fn give_mode(&self, file: &File) -> Result<(), Errno> {
        let there = self.directory.look(&self.name)?;
        let own =
            there.filter(|there| file_type(there) == libc::S_IFREG && there.st_uid == geteuid().as_raw());
        let is_trusted = self.directory.is_trusted();
        let mode = match &own {
            // Set-user-ID and the like are for programs.
            Some(there) if is_trusted => there.st_mode & 0o777,
            // Somebody may have linked it here.
            Some(there) => there.st_mode & self.mode,
            None => self.mode,
        };
        let group = match &own {
            Some(there) => Some(Gid::from_raw(there.st_gid)),
            // A set-group-ID directory would make it its own group's.
            None => (!is_trusted).then(getegid),
        };
        let group_is_right = match group {
            Some(group) if fstat(file)?.st_gid != group.as_raw() => fchown(file, None, Some(group)).is_ok(),
            _ => true,
        };
        let mode = if group_is_right { mode } else { mode & !0o070 };
        file.set_permissions(Permissions::from_mode(mode)).map_err(|error| errno(&error))
    }
}

/// A FIFO, device or socket.
pub(in crate::cli) struct Special {
    there: OwnedFd,
    path: PathBuf,
}

impl Special {
    /// Opens it for writing. A FIFO that nobody reads is waited for no longer than `timeout`.
    pub(super) fn open(&self, timeout: Duration) -> Result<OwnedFd, Refusal> {
        let failed = |errno| Refusal::system(&escape::path(&self.path), errno);
        let is_fifo = file_type(&fstat(&self.there).map_err(failed)?) == libc::S_IFIFO;
        // What was looked at, whatever has its name by now.
        let link = format!("/proc/self/fd/{}", self.there.as_raw_fd());
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let clock = Instant::now();
        loop {
            match open(link.as_str(), flags, Mode::empty()) {
                Ok(opened) => {
                    let flags = OFlag::from_bits_retain(fcntl(&opened, FcntlArg::F_GETFL).map_err(failed)?);
                    fcntl(&opened, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).map_err(failed)?;
                    return Ok(opened);
                }
                // Nobody reads it yet: fifo(7).
                Err(Errno::ENXIO) if is_fifo && clock.elapsed() < timeout => sleep(INTERVAL.min(timeout)),
                Err(Errno::ENXIO) if is_fifo => {
                    return Err(Refusal::NoReader { path: self.path.clone(), timeout });
                }
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// Writes to what was opened. Whoever has closed the other end has seen enough.
    pub(super) fn write(&self, opened: &OwnedFd, bytes: &[u8]) -> Result<(), Refusal> {
        match write_all(opened.as_fd(), bytes) {
            Ok(()) | Err(Errno::EPIPE) => Ok(()),
            Err(errno) => Err(Refusal::system(&escape::path(&self.path), errno)),
        }
    }
}

/// How often to look whether somebody reads a FIFO: nothing tells.
const INTERVAL: Duration = Duration::from_millis(10);
