// SPDX-License-Identifier: MIT OR Apache-2.0

//! What looks like a deleted file of a filesystem and is none.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::files::{create, map};
use crate::{Held, fill, wait_for_end_of_input};

/// A living file, open and mapped, whose name ends as /proc marks deleted ones.
pub(crate) fn live_deleted_name(path: &Path, size: u64) -> io::Result<()> {
    let mut name = OsString::from(path);
    name.push(" (deleted)");
    let file = create(Path::new(&name), size)?;
    map(&file, size)?;
    Held::descriptor(&file)?.announce()?;
    wait_for_end_of_input()
}

/// The name it was opened by is gone (so /proc says "(deleted)"), another is left.
pub(crate) fn hardlink_left(path: &Path, size: u64) -> io::Result<()> {
    let file = create(path, size)?;
    map(&file, size)?;
    fs::hard_link(path, path.with_extension("left"))?;
    fs::remove_file(path)?;
    Held::descriptor(&file)?.announce()?;
    wait_for_end_of_input()
}

/// No name, no link, and no filesystem that anybody mounted.
pub(crate) fn memfd(_: &Path, size: u64) -> io::Result<()> {
    let mut file = File::from(memfd_create(c"memory", MFdFlags::empty())?);
    fill(&mut file, size)?;
    map(&file, size)?;
    Held::descriptor(&file)?.announce()?;
    wait_for_end_of_input()
}

/// Shown in `maps` as "/SYSV00000000 (deleted)".
pub(crate) fn sysv_shm(_: &Path, size: u64) -> io::Result<()> {
    let size = usize::try_from(size).map_err(io::Error::other)?;
    // SAFETY: takes and returns plain numbers.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, size, libc::IPC_CREAT | 0o600) };
    nix::errno::Errno::result(id)?;
    // SAFETY: attaches at an address of the kernel's choice, never touched.
    let address = unsafe { libc::shmat(id, std::ptr::null(), 0) };
    // Marked for removal before anything can fail: it goes with this process.
    // SAFETY: IPC_RMID uses no buffer.
    nix::errno::Errno::result(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) })?;
    if address.addr() == usize::MAX {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    Held::default().announce()?;
    wait_for_end_of_input()
}
