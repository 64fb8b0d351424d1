//! The filesystem's own list of inodes without a name: complete whoever holds them.

// Helpers of tests: a failure in one is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use serde_json::Value;

use support::filesystem::Filesystem;
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

/// The image of a loop device has no process behind it.
#[test]
fn held_by_no_process() {
    require_root!();
    for fs in [Filesystem::ext4(128 * MIB), Filesystem::xfs()] {
        let (image, at) = (fs.path().join("image"), fs.beside("inside"));
        File::create(&image).unwrap().set_len(16 * MIB).unwrap();
        let run = |program: &str, args: &[&OsStr]| {
            assert!(Command::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
        };
        run("mkfs.ext4", &["-q".as_ref(), image.as_ref()]);
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), at.as_ref()]);
        run("sync", &["-f".as_ref(), image.as_ref()]);
        let inode = image.metadata().unwrap().ino();
        fs::remove_file(&image).unwrap();
        let report = report(fs.path());
        let entry = holder_of(only(&report), inode);
        assert_eq!(list(&entry["held_by"]).len(), 0, "{entry:#}");
        assert_eq!(entry["path"], image.to_str().unwrap());
        assert_eq!(entry["size_bytes"], 16 * MIB);
        assert_eq!(row(only(&report), "unlinked_unattributed"), number(&entry["bytes"]));
        assert_eq!(row(only(&report), "unlinked_open"), 0);
        let text = whyfull().arg("deleted").arg(fs.path()).run();
        assert!(text.text().contains(&format!("inode:{inode}")), "{text:?}");
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
