//! Filesystems that do not answer: a row that says so, and never a hang.

// Helpers of tests: a failure in one is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::libc;
use nix::mount::MsFlags;

use support::child::tie_to_test;
use support::filesystem::{Filesystem, mount_tmpfs};
use support::fuse::Fuse;
use support::holder::Holder;
use support::report::{holder_of, list, only, row, skips};
use support::whyfull::whyfull;
use support::world::World;
use support::{MIB, du};

/// Longer than any probe may take, shorter than anybody's patience.
const BOUND: Duration = Duration::from_secs(20);

/// A dead mount, and how `whyfull` says so.
fn says_that_it_is_dead(dead: &Path) {
    let run = whyfull().arg(dead).args(&["--timeout", "300ms"]).within(BOUND);
    let text = run.run();
    assert_eq!(text.code(), Some(1), "{text:?}");
    assert!(text.text().contains(dead.to_str().unwrap()), "{text:?}");
    let report = run.report();
    let skipped = skips(only(&report), "filesystem");
    assert_eq!(skipped.len(), 1, "{report:#}");
    assert_eq!(skipped[0]["errno"], "ETIMEDOUT");
    assert_eq!(skipped[0]["path"], dead.to_str().unwrap());
    assert_eq!(report["complete"], false);
}

#[test]
fn a_dead_mount_is_a_row_and_no_hang() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let dead = fs.beside("dead");
    let _fuse = Fuse::dead(&dead);
    says_that_it_is_dead(&dead);
}

#[test]
fn a_mount_that_stops_answering() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let dead = fs.beside("dead");
    let mut fuse = Fuse::endless(&dead);
    nix::sys::statvfs::statvfs(&dead).unwrap();
    fuse.stall();
    says_that_it_is_dead(&dead);
}

/// As a network filesystem whose server has gone: its daemon takes the requests,
/// and a thread that waits for an answer cannot even be killed.
#[test]
fn a_mount_that_swallows_requests() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let dead = fs.beside("dead");
    let fuse = Fuse::endless(&dead);
    nix::sys::statvfs::statvfs(&dead).unwrap();
    fuse.swallow();
    says_that_it_is_dead(&dead);
}

#[test]
fn a_dead_mount_inside_does_not_stop_the_walk() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let dead = fs.path().join("sub/dead");
    fs::create_dir_all(&dead).unwrap();
    fs::write(dead.join("file"), "covered").unwrap();
    let (all, bytes) = (du(fs.path()), du(&dead));
    let _fuse = Fuse::dead(&dead);
    let report = whyfull().arg(fs.path()).within(BOUND).report();
    let fs_report = only(&report);
    assert_eq!(row(fs_report, "visible"), i128::from(all - bytes));
    assert_eq!(row(fs_report, "hidden_by_mount"), i128::from(bytes));
}

#[test]
fn holders_of_a_dead_mount_do_not_stop_the_scan() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (dead, stalled) = (fs.beside("dead"), fs.beside("stalled"));
    let _dead = Fuse::dead(&dead);
    let mut fuse = Fuse::endless(&stalled);
    // This process has a descriptor, another one works there.
    let mut reference = File::options();
    let reference = reference.read(true).custom_flags(libc::O_PATH);
    let _descriptor = reference.open(&dead).unwrap();
    let mut inside = Command::new("cat");
    inside.current_dir(&stalled).stdin(Stdio::piped());
    tie_to_test(&mut inside, None);
    let mut inside = inside.spawn().unwrap();
    fuse.stall();
    let holder = Holder::start("fd", &fs.path().join("file"));

    let run = whyfull().arg(fs.path()).args(&["--timeout", "300ms"]);
    let report = run.within(BOUND).report();
    let entry = holder_of(only(&report), holder.inode());
    assert_eq!(entry["bytes"], holder.bytes());
    inside.kill().unwrap();
    inside.wait().unwrap();
}

#[test]
fn a_dead_mount_is_only_one_of_all() {
    require_root!();
    let world = World::new();
    mount_tmpfs(&world.directory("scratch"), MIB, MsFlags::empty());
    let _fuse = Fuse::dead(&world.directory("dead"));
    let run = world.whyfull().args(&["-a", "--timeout=300ms"]).within(BOUND);
    let report = run.report();
    let alive = list(&report["filesystems"]).iter();
    let alive = alive.filter(|fs| fs["fstype"] == "tmpfs").count();
    assert_eq!(alive, 2, "{report:#}");
}
