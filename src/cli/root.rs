// SPDX-License-Identifier: MIT OR Apache-2.0

//! `--root DIR`: in a container, the machine's own root directory as it is mounted there. The command
//! makes it its root: so mounts, processes, devices and user names are the machine's, by the names that they have there.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use nix::unistd::{chdir, chroot, fchdir};

use crate::commands::refusal::Refusal;
use crate::model::errno::describe;
use crate::model::escape;
use crate::sys::scout;

/// The way back to the root and working directory that the command was started with.
pub(super) struct Root {
    root: OwnedFd,
    directory: OwnedFd,
}

impl Root {
    /// Makes `path` the root directory, until this is dropped. An error, as a message, where there is no
    /// right to do so (`CAP_SYS_CHROOT`), no /proc below it, or no answer within `timeout`.
    pub(super) fn enter(path: &Path, timeout: Duration) -> Result<Self, String> {
        reach(path, timeout).map_err(|refusal| refusal.to_string())?;
        let failure = |errno: Errno| {
            let reason = match errno {
                Errno::EPERM => "changing the root directory takes CAP_SYS_CHROOT".to_owned(),
                errno => describe(&io::Error::from(errno)),
            };
            format!("{}: {reason}", escape::path(path))
        };
        let here =
            |path: &str| open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        let (root, directory) = (here("/").map_err(failure)?, here(".").map_err(failure)?);
        let outside = Self { root, directory };
        chroot(path).and_then(|()| chdir("/")).map_err(failure)?;
        if statfs("/proc").map(|proc| proc.filesystem_type()) == Ok(PROC_SUPER_MAGIC) {
            return Ok(outside);
        }
        Err(format!(
            "{}: no proc filesystem is mounted there: mount it along with what is below the root",
            escape::path(&path.join("proc"))
        ))
    }
}

/// Makes sure that the directory, and what is mounted on its /proc, answer.
fn reach(path: &Path, timeout: Duration) -> Result<(), Refusal> {
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    match scout::all_answer(&[&name(path), &name(&path.join("proc"))], timeout) {
        Ok(false) => Err(Refusal::NoAnswer { subject: escape::path(path), timeout }),
        // Where no child can be had, going without one is better than not at all.
        Ok(true) | Err(_) => Ok(()),
    }
}

impl Drop for Root {
    /// A root directory that was left by chroot(2) can be entered again through a descriptor. What was
    /// entered may be entered, so this does not fail.
    fn drop(&mut self) {
        let _ = fchdir(&self.root).and_then(|()| chroot(".")).and_then(|()| fchdir(&self.directory));
    }
}
