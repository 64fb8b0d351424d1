// SPDX-License-Identifier: MIT OR Apache-2.0

//! The filesystem's own list of inodes without a name: complete whoever holds them.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use nix::mount::{MntFlags, MsFlags, umount2};
use serde_json::Value;

use crate::support::filesystem::{Filesystem, bind, mount_tmpfs};
use crate::support::held::Held;
use crate::support::holder::Holder;
use crate::support::kernel::clone_tree;
use crate::support::report::{holder_of, list, number, only, report, row};
use crate::support::whyfull::whyfull;
use crate::support::{KIB, MIB};

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
        assert!(text.text().contains("list no deleted files"), "{text:?}");
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
        "queued-stream",
        "queued-unaccepted",
        "registered",
    ];
    let others: [fn(&Filesystem) -> Held; 10] = [
        Held::by_loop_device,
        Held::by_mounted_image,
        Held::by_mounted_erofs,
        Held::by_bind_mount,
        Held::by_mount_of_another_namespace,
        Held::by_namespace_without_process,
        Held::by_detached_tree,
        Held::by_interpreter,
        Held::by_probe,
        Held::through_overlay,
    ];
    let by_processes = situations.map(|situation| Held::by_process(situation, &fs));
    let by_others = others.map(|make| make(&fs));
    let all: Vec<&Held> = by_processes.iter().chain(&by_others).collect();
    let held = report(fs.path());
    let causes = ["unlinked_open", "unlinked_kernel", "unlinked_unattributed"];
    let rows: i128 = causes.map(|cause| row(only(&held), cause)).into_iter().sum();
    for one in &all {
        assert_eq!(holder_of(only(&held), one.inode)["bytes"], one.bytes, "{held:#}");
    }
    drop(all);
    drop((by_processes, by_others));
    let freed = report(fs.path());
    assert_eq!(used(&held) - used(&freed), rows, "{held:#}");
    assert_eq!(list(&only(&freed)["deleted"]).len(), 0);
}
