// SPDX-License-Identifier: MIT OR Apache-2.0

//! Filesystems that do not answer: a row that says so, and never a hang.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::libc;
use nix::mount::MsFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::child::{tie_to_test, wait};
use crate::support::filesystem::{Filesystem, mount_tmpfs};
use crate::support::fuse::Fuse;
use crate::support::holder::Holder;
use crate::support::report::{holder_of, list, only, row, skips};
use crate::support::whyfull::{Whyfull, whyfull};
use crate::support::world::World;
use crate::support::{MIB, du};

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

/// A file that this process holds, as a command line names it.
fn deleted_on(fuse: &Path) -> (File, String) {
    let path = fuse.join("f0");
    // When the first is closed, the kernel learns that nobody has to be told.
    drop(File::open(&path).unwrap());
    let file = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let what = format!("{}:{}", std::process::id(), file.as_raw_fd());
    (file, what)
}

/// One line that says so, and nothing else.
fn gets_no_answer(run: &Whyfull) {
    let run = run.clone().args(&["--timeout", "300ms"]).within(BOUND).run();
    assert_eq!((run.code(), run.text()), (Some(2), ""), "{run:?}");
    assert!(run.errors().ends_with(": no answer within 300ms (--timeout)\n"), "{run:?}");
    assert_eq!(run.errors().lines().count(), 1, "{run:?}");
}

fn assert_empty(directory: &Path) {
    let left: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_deleted_file_on_a_dead_mount() {
    require_root!();
    for swallows in [false, true] {
        let out = Filesystem::tmpfs(MIB);
        let at = out.beside("dead");
        let mut fuse = Fuse::endless(&at);
        let (file, what) = deleted_on(&at);
        if swallows {
            fuse.swallow();
        } else {
            fuse.stall();
        }
        gets_no_answer(&whyfull().args(&["recover", &what]).arg(out.path()));
        gets_no_answer(&whyfull().args(&["release", &what, "--yes"]));
        assert_empty(out.path());
        // Not closed before the connection has ended.
        drop(fuse);
        drop(file);
    }
}

#[test]
fn a_copy_to_a_dead_mount() {
    require_root!();
    for swallows in [false, true] {
        let fs = Filesystem::ext4(64 * MIB);
        let holder = Holder::start("fd", &fs.path().join("file"));
        let at = fs.beside("dead");
        let mut fuse = Fuse::endless(&at);
        fs::metadata(at.join("d0")).unwrap();
        if swallows {
            fuse.swallow();
        } else {
            fuse.stall();
        }
        for destination in [at.clone(), at.join("d0"), at.join("copy"), at.join("d0/copy")] {
            gets_no_answer(&whyfull().args(&["recover", &holder.what()]).arg(destination));
        }
        gets_no_answer(&whyfull().args(&["recover", "--all"]).arg(&at).arg("--filesystem").arg(fs.path()));
    }
}

/// Whoever waits for that cannot even be killed; the command can be interrupted.
#[test]
fn a_read_that_is_never_answered() {
    require_root!();
    let out = Filesystem::tmpfs(MIB);
    let at = out.beside("dead");
    let fuse = Fuse::endless(&at);
    let (file, what) = deleted_on(&at);
    let run = whyfull().args(&["recover", &what]).arg(out.path()).args(&["--timeout", "300ms"]);
    let mut command = run.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(command.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    assert_eq!(line, "whyfull: no progress for 600ms: a filesystem may not be answering (Ctrl-C gives up)\n");
    kill(Pid::from_raw(command.id().cast_signed()), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    let said = "whyfull: interrupted while a filesystem did not answer; the unfinished copy was removed\n";
    assert_eq!(rest, said);
    let status = wait(&mut command, BOUND).expect("it ends");
    assert_eq!(status.signal(), Some(libc::SIGINT));
    assert_empty(out.path());
    drop(fuse);
    drop(file);
}

/// What cannot be copied is in the index, with the reason.
#[test]
fn all_deleted_files_on_a_dead_mount() {
    require_root!();
    let out = Filesystem::tmpfs(MIB);
    let at = out.beside("dead");
    let mut fuse = Fuse::endless(&at);
    let (file, _) = deleted_on(&at);
    fuse.stall();
    let run = whyfull().args(&["recover", "--all"]).arg(out.path()).arg("--filesystem").arg(&at);
    let run = run.args(&["--json", "--timeout", "300ms"]).within(BOUND).run();
    assert_eq!(run.code(), Some(1), "{run:?}");
    let index: Value = serde_json::from_slice(&run.stdout).unwrap();
    let [file_in_it] = list(&index["files"]) else { panic!("{index:#}") };
    let reason = format!("{}: no answer within 300ms (--timeout)", at.display());
    assert_eq!(file_in_it["error"], reason, "{index:#}");
    drop(fuse);
    drop(file);
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
