// SPDX-License-Identifier: MIT OR Apache-2.0

//! The fixtures do what they say: otherwise the tests built on them prove nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::child::{tie_to_test, wait};
use crate::support::filesystem::{Filesystem, bind};
use crate::support::fuse::Fuse;
use crate::support::holder::Holder;
use crate::support::{MIB, du, temp_dir, tree};

/// Where /proc shows what a holder holds.
fn proc_entry(holder: &Holder, entry: &str) -> PathBuf {
    let (pid, tid) = (holder.pid(), holder.tid());
    format!("/proc/{pid}/task/{tid}/{entry}").into()
}

#[test]
fn holders_are_in_the_situation_that_they_name() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    for situation in [
        "fd",
        "many-fds",
        "o-path",
        "tmpfile",
        "renamed-over",
        "sparse",
        "prealloc",
        "hostile-name",
        "thread-table",
        "zombie-leader",
        "fork-shared",
        "cwd",
        "root",
        "thread-cwd",
        "exe",
    ] {
        let path = match situation {
            "tmpfile" | "hostile-name" => fs.path().to_owned(),
            _ => fs.path().join(situation),
        };
        let holder = Holder::start(situation, &path);
        let entry = match situation {
            "cwd" | "root" | "exe" => situation.to_owned(),
            "thread-cwd" => "cwd".to_owned(),
            _ => format!("fd/{}", holder.fd()),
        };
        let meta = fs::metadata(proc_entry(&holder, &entry)).unwrap();
        assert_eq!(meta.nlink(), 0, "{situation}");
        assert_eq!(meta.ino(), holder.inode(), "{situation}");
        assert_eq!(meta.blocks() * 512, holder.bytes(), "{situation}");
        assert_eq!(meta.size(), holder.size(), "{situation}");
        if matches!(situation, "thread-table" | "thread-cwd" | "zombie-leader") {
            let leader = fs::metadata(format!("/proc/{}/{entry}", holder.pid()));
            let same = leader.is_ok_and(|leader| leader.ino() == meta.ino());
            assert!(!same, "{situation}: the leader must not have it");
        }
    }
}

#[test]
fn mapped_holders_have_no_descriptor() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    for situation in ["map", "zombie-leader-map", "hostile-map"] {
        let path = match situation {
            "hostile-map" => fs.path().to_owned(),
            _ => fs.path().join(situation),
        };
        let holder = Holder::start(situation, &path);
        let maps = fs::read(proc_entry(&holder, "maps")).unwrap();
        let inode = format!(" {} ", holder.inode());
        let maps = String::from_utf8_lossy(&maps);
        let line = maps.lines().find(|line| line.contains(&inode));
        assert!(line.is_some_and(|line| line.ends_with("(deleted)")));
        let descriptors = fs::read_dir(proc_entry(&holder, "fd")).unwrap();
        for descriptor in descriptors {
            let meta = fs::metadata(descriptor.unwrap().path());
            assert!(meta.is_err() || meta.unwrap().ino() != holder.inode());
        }
    }
}

#[test]
fn traps_still_have_a_name() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    for situation in ["live-deleted-name", "hardlink-left"] {
        let holder = Holder::start(situation, &fs.path().join(situation));
        let entry = proc_entry(&holder, &format!("fd/{}", holder.fd()));
        assert_eq!(fs::metadata(&entry).unwrap().nlink(), 1, "{situation}");
        let shown = fs::read_link(&entry).unwrap();
        assert!(shown.to_string_lossy().ends_with(" (deleted)"));
    }
}

fn stat_of(pid: u64) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

#[test]
fn a_holder_ends_with_its_guard() {
    let dir = temp_dir();
    let holder = Holder::start("fork-shared", &dir.path().join("file"));
    let pids = [vec![holder.pid()], holder.children()].concat();
    assert_eq!(pids.len(), 2);
    let alive = |pid: u64| PathBuf::from(format!("/proc/{pid}")).exists();
    assert!(pids.iter().all(|&pid| alive(pid)));
    drop(holder);
    assert!(!alive(pids[0]));
    // The kernel ends the child, and whoever adopts it has to notice.
    let deadline = Instant::now() + Duration::from_secs(20);
    while stat_of(pids[1]).is_some_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "the child lives on");
        std::thread::yield_now();
    }
}

#[test]
fn a_filesystem_ends_with_its_guard() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let mountpoint = fs.path().to_owned();
    let other = fs.beside("with blank");
    bind(fs.path(), &other);
    drop(fs);
    assert!(!mountpoint.parent().unwrap().exists());
    let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(!table.contains(mountpoint.parent().unwrap().to_str().unwrap()));
}

#[test]
fn a_tree_is_the_same_for_the_same_seed_and_can_be_removed() {
    let dir = temp_dir();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    tree::nasty(&one, 7);
    tree::nasty(&two, 7);
    assert_eq!(du(&one), du(&two));
    for (name, levels) in [("a".to_owned(), 5200), ("n".repeat(255), 40)] {
        let deep = one.join(&name[..1]);
        tree::chain(&deep, &name, levels);
    }
    tree::remove(&one);
    tree::remove(&two);
    assert!(!one.exists() && !two.exists());
}

#[test]
fn fuse_filesystems_answer_or_do_not() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let (dead, endless) = (fs.beside("dead"), fs.beside("endless"));
    let _dead = Fuse::dead(&dead);
    let mut fuse = Fuse::endless(&endless);
    let entries = walkdir::WalkDir::new(&endless).into_iter().take(2000);
    let entries: Vec<_> = entries.map(|entry| entry.unwrap()).collect();
    assert!(entries.iter().any(|entry| entry.file_type().is_file()));
    assert!(entries.iter().any(|entry| entry.depth() > 10));
    fuse.wait_until_walked(100);
    let space = nix::sys::statvfs::statvfs(&endless).unwrap();
    assert_eq!(space.blocks() * space.fragment_size(), 4 << 30);

    fuse.stall();
    for mount in [&dead, &endless] {
        let mut asking = Command::new("stat");
        asking.arg("-f").arg(mount).stdout(Stdio::null());
        tie_to_test(&mut asking, None);
        let mut asking = asking.spawn().unwrap();
        let patience = Duration::from_millis(200);
        assert_eq!(wait(&mut asking, patience), None, "it must not answer");
        asking.kill().unwrap();
        asking.wait().unwrap();
    }
}

#[test]
fn waiting_for_a_child_has_an_end() {
    let mut endless = Command::new("cat");
    endless.stdin(Stdio::piped());
    tie_to_test(&mut endless, None);
    let mut endless = endless.spawn().unwrap();
    assert_eq!(wait(&mut endless, Duration::from_millis(10)), None);
    drop(endless.stdin.take());
    assert!(wait(&mut endless, Duration::from_mins(1)).is_some());
}
