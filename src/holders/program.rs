// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which program a process really runs, and as whom. What it calls itself (`comm`, `cmdline`) is its own to
//! choose: prctl(2), `PR_SET_NAME`.

use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::sys::stat::{Links, Stat, statx_at, statx_fd};
use crate::sys::{Dev, scout};

/// What tells inodes apart.
type FileId = (Dev, u64);

/// Where the system's own programs are. Not `/usr/local`, which some systems let a group write to.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What the kernel says a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Running {
    /// The name that the file has, or had, where the process runs. Not to be trusted: it may be a file of the
    /// user's, in a mount namespace of the user's.
    pub(super) executable: Option<String>,
    /// Whether it is the file of that name in one of the system's directories.
    pub(super) is_the_systems: bool,
    /// The user id, where real, effective, saved and filesystem id are the same.
    pub(super) uid: Option<u32>,
}

/// What each of these processes runs. Those that have gone meanwhile are left out, or run nothing.
pub(super) fn running(pids: &[i32], proc: &Path, timeout: Duration) -> HashMap<i32, Running> {
    let mut found: HashMap<i32, Running> = HashMap::new();
    let mut candidates: Vec<(i32, CString, Vec<FileId>)> = Vec::new();
    for &pid in pids {
        let process = proc.join(pid.to_string());
        let uid = fs::read_to_string(process.join("status")).ok().as_deref().and_then(sole_uid);
        let name = executable(&process.join("exe"));
        let systems = name.as_deref().map(of_that_name).unwrap_or_default();
        if let (false, Ok(exe)) =
            (systems.is_empty(), CString::new(process.join("exe").into_os_string().into_vec()))
        {
            candidates.push((pid, exe, systems));
        }
        let executable = name.map(|name| name.to_string_lossy().into_owned());
        found.insert(pid, Running { executable, is_the_systems: false, uid });
    }
    // A child looks: the program may be on a filesystem of the user's, whose server does not answer.
    let paths: Vec<CString> = candidates.iter().map(|(_, exe, _)| exe.clone()).collect();
    let identities = scout::identities(&paths, timeout).unwrap_or_default();
    for ((pid, _, systems), identity) in candidates.iter().zip(identities) {
        if let (Some(running), Ok(identity)) = (found.get_mut(pid), identity) {
            running.is_the_systems = systems.contains(&identity);
        }
    }
    found
}

/// The last name in the link of /proc. It says what the file is, or was, called where the process runs.
fn executable(link: &Path) -> Option<OsString> {
    let bytes = fs::read_link(link).ok()?.into_os_string().into_vec();
    let path = Path::new(OsStr::from_bytes(bytes.strip_suffix(b" (deleted)").unwrap_or(&bytes)));
    path.file_name().map(OsStr::to_owned)
}

/// The system's own programs of that name. They are compared by inode: the path of a running program is that
/// of its mount namespace, where a user may have put anything.
fn of_that_name(name: &OsStr) -> Vec<FileId> {
    let found = DIRECTORIES.iter().filter_map(|directory| in_directory(Path::new(directory), name));
    found.filter(is_roots_alone).map(|stat| stat.identity()).collect()
}

/// No link is followed in it: that may lead to a place that others can change.
fn in_directory(directory: &Path, name: &OsStr) -> Option<Stat> {
    let name = CString::new(name.as_bytes()).ok()?;
    let directory =
        open(directory, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let stat = statx_fd(directory.as_fd()).ok()?;
    let found = || statx_at(directory.as_fd(), &name, Links::Stay).ok().filter(Stat::is_file);
    is_roots_alone(&stat).then(found).flatten()
}

/// Whether nobody but root may write to it. An ACL shows in the group's bits: acl(5).
fn is_roots_alone(stat: &Stat) -> bool {
    stat.uid == 0 && stat.mode & (libc::S_IWGRP | libc::S_IWOTH) == 0
}

/// The line `Uid:` of /proc/PID/status: real, effective, saved and filesystem id. Where they differ, the
/// process is between two users.
fn sole_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let uids: Vec<u32> = line.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    match uids.as_slice() {
        [first, others @ ..] if others.len() == 3 && others.iter().all(|uid| uid == first) => Some(*first),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_between_two_users_is_neithers() {
        assert_eq!(sole_uid("Name:\tx\nUid:\t0\t0\t0\t0\nGid:\t1\t1\t1\t1\n"), Some(0));
        assert_eq!(sole_uid("Uid:\t1000\t0\t0\t0\n"), None);
        assert_eq!(sole_uid("Uid:\t1000\n"), None);
        // The name, which comes first, cannot begin a line: proc(5) escapes a line break in it.
        assert_eq!(sole_uid("Name:\tUid: 0 0 0 0\nUid:\t7\t7\t7\t7\n"), Some(7));
    }

    /// A program of root's, by a name that the process does not choose.
    #[test]
    fn a_program_of_the_systems_is_known_by_its_inode() {
        let mut child = std::process::Command::new("/usr/bin/sleep");
        let mut child =
            std::os::unix::process::CommandExt::arg0(&mut child, "nginx").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let found = running(&[pid, i32::MAX], Path::new("/proc"), Duration::from_mins(1));
        child.kill().unwrap();
        child.wait().unwrap();
        let is_mine = nix::unistd::geteuid().as_raw();
        let expected =
            Running { executable: Some("sleep".to_owned()), is_the_systems: true, uid: Some(is_mine) };
        assert_eq!(found[&pid], expected);
        assert_eq!(found[&i32::MAX], Running::default());
    }

    #[test]
    fn this_test_is_no_program_of_the_systems() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let found = running(&[pid], Path::new("/proc"), Duration::from_mins(1));
        let running = &found[&pid];
        let own = std::env::current_exe().unwrap();
        assert_eq!(running.executable.as_deref(), own.file_name().and_then(OsStr::to_str));
        assert!(!running.is_the_systems);
    }
}
