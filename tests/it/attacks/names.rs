// SPDX-License-Identifier: MIT OR Apache-2.0

//! Last names that the kernel does not tell: a file that had one is not said never to have had any.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use nix::fcntl::{OFlag, open, openat};
use nix::libc;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, fchdir, unlinkat};
use serde_json::Value;

use crate::support::MIB;
use crate::support::child::tie_to_test;
use crate::support::filesystem::Filesystem;
use crate::support::fuse::Fuse;
use crate::support::loop_device::LoopDevice;
use crate::support::report::{holder_of, list, only};
use crate::support::whyfull::whyfull;

/// A directory whose path is longer than any that a link of /proc tells.
fn deep(fs: &Filesystem) -> OwnedFd {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = open(fs.path(), flags, Mode::empty()).unwrap();
    for _ in 0..20 {
        let name = "d".repeat(250);
        mkdirat(&directory, name.as_str(), Mode::S_IRWXU).unwrap();
        directory = openat(&directory, name.as_str(), flags, Mode::empty()).unwrap();
    }
    directory
}

/// A file in it, which has lost its name.
fn deleted(directory: &OwnedFd, bytes: usize) -> File {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(directory, "log", flags, Mode::S_IRWXU).unwrap());
    file.write_all(&vec![1; bytes]).unwrap();
    file.sync_all().unwrap();
    unlinkat(directory, "log", UnlinkatFlags::NoRemoveDir).unwrap();
    file
}

/// Is killed and waited for when this goes out of scope.
struct Inside(Child);

impl Inside {
    /// A process whose working directory that is.
    fn new(directory: OwnedFd, keep: &File) -> Self {
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(keep.try_clone().unwrap());
        tie_to_test(&mut command, None);
        let enter = move || fchdir(&directory).map_err(std::io::Error::from);
        // SAFETY: makes one system call and allocates nothing.
        unsafe { command.pre_exec(enter) };
        Self(command.spawn().unwrap())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn entry(fs: &Filesystem, inode: u64) -> (Value, String) {
    let report = whyfull().arg(fs.path()).report();
    let screen = whyfull().arg("deleted").arg(fs.path()).run().text().to_owned();
    (holder_of(only(&report), inode).clone(), screen)
}

#[test]
fn a_name_too_long_to_be_told_is_not_none() {
    require_root!();
    for fs in Filesystem::all() {
        let file = deleted(&deep(&fs), 64 << 10);
        let inode = file.metadata().unwrap().ino();
        let (entry, screen) = entry(&fs, inode);
        assert_eq!((&entry["path"], &entry["name_unknown"]), (&Value::Null, &"too_long".into()), "{entry:#}");
        let said = format!("(its name is too long to be told) inode {inode}");
        assert!(screen.contains(&said) && !screen.contains("never named"), "{screen}");
        // Both commands that act say so, too.
        let what = format!("{}:{}", std::process::id(), file.as_raw_fd());
        let plan = whyfull().args(&["release", &what, "--dry-run"]).run();
        assert!(plan.text().contains(&said), "{plan:?}");
        let out = crate::support::temp_dir();
        let saved = whyfull().args(&["recover", &what]).arg(out.path()).done();
        assert_eq!(saved["name_unknown"], "too_long", "{saved:#}");
        assert!(out.path().join(format!("inode-{inode}")).exists(), "{saved:#}");
    }
}

#[test]
fn what_never_had_a_name_still_has_none() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let mut options = File::options();
    let mut file = options.write(true).custom_flags(libc::O_TMPFILE).open(fs.path()).unwrap();
    file.write_all(&vec![1; 100_000]).unwrap();
    let (entry, screen) = entry(&fs, file.metadata().unwrap().ino());
    assert_eq!((&entry["path"], &entry["name_unknown"]), (&Value::Null, &Value::Null), "{entry:#}");
    assert!(screen.contains("(never named) inode"), "{screen}");
}

/// /proc/PID/maps tells paths of any length.
#[test]
fn a_mapped_file_has_its_whole_name() {
    require_root!();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::tmpfs(64 * MIB)] {
        let file = deleted(&deep(&fs), 64 << 10);
        let inode = file.metadata().unwrap().ino();
        // SAFETY: maps a page that nobody reads; it stays mapped until the test process ends.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(at, libc::MAP_FAILED);
        drop(file);
        let (entry, _) = entry(&fs, inode);
        let path = PathBuf::from(entry["path"].as_str().unwrap());
        assert!(path.starts_with(fs.path()) && path.ends_with("log"), "{entry:#}");
        assert!(path.as_os_str().len() > 5000 && entry["name_unknown"].is_null(), "{entry:#}");
        // SAFETY: it was mapped with that length, and nobody uses it.
        unsafe { libc::munmap(at, 4096) };
    }
}

#[test]
fn the_file_behind_a_loop_device() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let file = deleted(&deep(&fs), 1 << 20);
    let inode = file.metadata().unwrap().ino();
    let device = LoopDevice::on(format!("/proc/self/fd/{}", file.as_raw_fd()).as_ref());
    drop(file);
    let (entry, _) = entry(&fs, inode);
    let held_by = &list(&entry["held_by"])[0];
    assert_eq!(
        (&held_by["via"], &held_by["name"]),
        (&"loop".into(), &device.node().to_str().unwrap().into())
    );
    assert_eq!(entry["name_unknown"], "too_long", "{entry:#}");
}

/// A server's mount makes the scan look where links lead before it follows them. That this cannot be told of one of
/// a process's links hides none of the others.
#[test]
fn a_working_directory_with_too_long_a_path() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let far = fs.beside("far");
    let _server = Fuse::endless(&far);
    let directory = deep(&fs);
    let file = deleted(&directory, 64 << 10);
    let inode = file.metadata().unwrap().ino();
    let inside = Inside::new(directory, &file);
    drop(file);
    let report = whyfull().arg(fs.path()).report();
    let held_by = &list(&holder_of(only(&report), inode)["held_by"])[0];
    assert_eq!(held_by["pid"], inside.0.id(), "{report:#}");
    let proc = format!("/proc/{}", inside.0.id());
    assert!(!report.to_string().contains(&format!("{proc}\"")), "it was skipped: {report:#}");
    drop(inside);
    fs::metadata(fs.path()).unwrap();
}
