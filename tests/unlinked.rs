//! The filesystem's own list of inodes without a name: complete whoever holds them.

// Helpers of tests: a failure in one is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, umount2};
use serde_json::Value;

use support::filesystem::{Filesystem, bind, mount_tmpfs};
use support::holder::Holder;
use support::report::{holder_of, list, number, only, report, row};
use support::whyfull::whyfull;
use support::{KIB, MIB};

fn used(report: &Value) -> i128 {
    number(&only(report)["capacity"]["used_bytes"])
}

#[test]
fn where_nothing_is_held_no_process_is_read() {
    require_root!();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::xfs()] {
        let report = report(fs.path());
        assert_eq!(only(&report)["processes_read"], 0, "{report:#}");
        assert_eq!(report["complete"], true, "{report:#}");
        assert_eq!(row(only(&report), "unlinked_unattributed"), 0);
        let text = whyfull().arg("deleted").arg(fs.path()).run();
        assert!(text.text().contains("list none"), "{text:?}");
        assert_eq!(text.code(), Some(0), "{text:?}");
    }
    // tmpfs keeps no list.
    let fs = Filesystem::tmpfs(MIB);
    assert!(number(&only(&report(fs.path()))["processes_read"]) > 0);
}

/// A mount in a tree that is in no namespace: a descriptor of its root keeps it, and nothing tells what
/// is mounted below that.
#[test]
fn held_by_nobody_that_is_known() {
    require_root!();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::xfs()] {
        let (path, tree) = (fs.path().join("file"), fs.beside("tree"));
        fs::write(&path, vec![1; usize::try_from(MIB).unwrap()]).unwrap();
        File::open(&path).unwrap().sync_all().unwrap();
        let inode = path.metadata().unwrap().ino();
        mount_tmpfs(&tree, MIB, MsFlags::empty());
        let point = tree.join("point");
        File::create(&point).unwrap();
        bind(&path, &point);
        let detached = clone_tree(&tree);
        umount2(&tree, MntFlags::MNT_DETACH).unwrap();
        fs::remove_file(&path).unwrap();
        let report = report(fs.path());
        let entry = holder_of(only(&report), inode);
        assert_eq!(list(&entry["held_by"]).len(), 0, "{entry:#}");
        assert_eq!(entry["path"], path.to_str().unwrap());
        assert_eq!((&entry["bytes"], &entry["size_bytes"]), (&MIB.into(), &MIB.into()));
        assert_eq!(row(only(&report), "unlinked_unattributed"), i128::from(MIB));
        assert_eq!(row(only(&report), "unlinked_open") + row(only(&report), "unlinked_kernel"), 0);
        let text = whyfull().arg("deleted").arg(fs.path()).run();
        assert!(text.text().contains(&format!("inode:{inode}  (unknown)")), "{text:?}");
        drop(detached);
    }
}

/// All that is mounted at `root` and below, once more, where nobody sees it: `open_tree(2)`.
fn clone_tree(root: &Path) -> OwnedFd {
    /// include/uapi/linux/mount.h.
    const OPEN_TREE_CLONE: i32 = 1;
    let root = CString::new(root.as_os_str().as_encoded_bytes()).unwrap();
    let flags = OPEN_TREE_CLONE | libc::AT_RECURSIVE | libc::O_CLOEXEC;
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, root.as_ptr(), flags) };
    let fd = i32::try_from(Errno::result(fd).unwrap()).unwrap();
    // SAFETY: the descriptor is new and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Whom a process cannot see, it cannot name; the bytes are the same.
#[test]
fn held_outside_the_pid_namespace() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let outside = Holder::start("fd", &fs.path().join("file"));
    let run = whyfull().arg(fs.path()).arg("--json").in_pid_namespace().run();
    let report = run.json();
    assert_eq!(row(only(&report), "unlinked_unattributed"), i128::from(outside.bytes()));
    let entry = holder_of(only(&report), outside.inode());
    assert_eq!(entry["path"], fs.path().join("file").to_str().unwrap());
    let text = whyfull().arg(fs.path()).in_pid_namespace().run();
    assert!(text.text().contains("1 file, holder unknown"), "{text:?}");
    assert!(text.text().contains("pid namespace"), "{text:?}");
}

/// What the rows say is what df regains when all holders are gone.
#[test]
fn all_that_is_held_comes_back() {
    require_root!();
    let fs = Filesystem::ext4(256 * MIB);
    fs::write(fs.path().join("stays"), vec![1; 100 * usize::try_from(KIB).unwrap()]).unwrap();
    let situations = [
        "fd",
        "many-fds",
        "o-path",
        "tmpfile",
        "sparse",
        "prealloc",
        "thread-table",
        "zombie-leader",
        "map",
        "exe",
        "cwd",
        "thread-cwd",
        "fork-shared",
    ];
    let holders = situations.map(|situation| {
        let path = if situation == "tmpfile" { fs.path().to_owned() } else { fs.path().join(situation) };
        Holder::start(situation, &path)
    });
    let held = report(fs.path());
    let rows = row(only(&held), "unlinked_open") + row(only(&held), "unlinked_unattributed");
    assert_eq!(row(only(&held), "unlinked_unattributed"), 0, "{held:#}");
    drop(holders);
    let freed = report(fs.path());
    assert_eq!(used(&held) - used(&freed), rows, "{held:#}");
    assert_eq!(list(&only(&freed)["holders"]).len(), 0);
}
