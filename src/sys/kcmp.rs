// SPDX-License-Identifier: MIT OR Apache-2.0

//! kcmp(2): whether two tasks share a descriptor table or a working directory, so
//! that what they share is read once.

use nix::errno::Errno;

/// What two tasks may share.
#[derive(Clone, Copy, Debug)]
pub enum Resource {
    /// The table of open descriptors (`KCMP_FILES`).
    Files,
    /// Root and working directory (`KCMP_FS`).
    Directories,
}

/// `KCMP_FILES` and `KCMP_FS` of include/uapi/linux/kcmp.h; libc does not name them.
const KCMP_FILES: libc::c_int = 2;
const KCMP_FS: libc::c_int = 3;

/// Whether tasks `a` and `b` share `what`. An error (no permission, no such call, a task
/// that has gone) means: not known.
pub fn same(a: i32, b: i32, what: Resource) -> Result<bool, Errno> {
    let kind = match what {
        Resource::Files => KCMP_FILES,
        Resource::Directories => KCMP_FS,
    };
    // SAFETY: kcmp takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, a, b, kind, 0, 0) };
    Errno::result(result).map(|order| order == 0)
}
