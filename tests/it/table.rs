// SPDX-License-Identifier: MIT OR Apache-2.0

//! ext2, ext3 and ext4 read from their inode tables: what changes meanwhile, what takes a walk instead,
//! and what is told besides the sums.

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::support::filesystem::{Filesystem, bind, mount_tmpfs};
use crate::support::overlay::Overlay;
use crate::support::report::{list, number, only, row};
use crate::support::routes::{agrees, counting, run};
use crate::support::tree;
use crate::support::whyfull::whyfull;
use crate::support::{MIB, du, tool};

/// Nothing that happens meanwhile is taken for damage.
#[test]
fn a_busy_filesystem() {
    require_root!();
    for (mkfs, options) in [(["-b", "1024", "-N", "20000"], ""), (["-O", "inline_data", "-N", "20000"], "")] {
        let fs = Filesystem::ext4_with(96 * MIB, &mkfs, options);
        tree::ordinary(&fs.path().join("quiet"), &mut tree::Random::new(16));
        let quiet = i128::from(crate::support::du(&fs.path().join("quiet")));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for number in 0..2 {
                let (root, done) = (fs.path().join(format!("busy{number}")), &done);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        churn(&root);
                    }
                });
            }
            let runs: Vec<_> =
                (0..15).map(|_| counting(fs.path(), "table").in_pid_namespace().run()).collect();
            done.store(true, Ordering::Relaxed);
            for run in runs {
                assert!(matches!(run.code(), Some(0 | 1)), "{run:?}");
                let report = run.json();
                let directories = list(&only(&report)["directories"]);
                let path = fs.path().join("quiet");
                let found = directories.iter().find(|d| d["path"] == path.to_str().unwrap()).unwrap();
                assert_eq!(number(&found["bytes"]), quiet, "{found:#}");
            }
        });
        fs::remove_dir_all(fs.path().join("busy0")).or_else(gone).unwrap();
        agrees(fs.path(), "quiet again");
    }
}

fn gone(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Directories that grow, are split, lose their blocks to files, and go.
fn churn(root: &Path) {
    for round in 0..3 {
        fs::create_dir(root).unwrap();
        for name in 0..300 {
            let path = root.join(format!("a name of some length {name}"));
            if name % 10 == 0 {
                fs::create_dir(path.with_extension("d")).unwrap();
            }
            fs::write(path, vec![0xff; 1000 * (round + 1)]).unwrap();
        }
        fs::remove_dir_all(root).unwrap();
        fs::write(root, vec![0xee; 200_000]).unwrap();
        fs::remove_file(root).unwrap();
    }
}

#[test]
fn where_the_tables_cannot_be_read() {
    require_root!();
    let (tmpfs, ext4) = (Filesystem::tmpfs(MIB), Filesystem::ext4(16 * MIB));
    let refused = [
        (counting(tmpfs.path(), "table"), "tmpfs"),
        (counting(ext4.path(), "table").by_nobody(), "Permission denied"),
    ];
    for (run, reason) in refused {
        let run = run.refused(reason);
        assert!(run.errors().contains("--method table"), "{run:?}");
    }
    let report = counting(ext4.path(), "auto").by_nobody().run().json();
    assert_eq!(only(&report)["method"], "walk");
    assert!(only(&report)["method_note"].as_str().unwrap().contains("Permission denied"), "{report:#}");
    let text = whyfull().arg(ext4.path()).arg("-v").by_nobody().run();
    assert!(text.text().contains("Counted by walking"), "{text:?}");
    let report = counting(ext4.path(), "walk").run().json();
    assert_eq!(only(&report)["method_note"], Value::Null);
}

/// The names that are listed beneath mount points and outside of a mounted part take a walk; the tables
/// still tell what the filesystem keeps for itself.
#[test]
fn where_names_are_to_be_listed() {
    require_root!();
    let ext4 = Filesystem::ext4(16 * MIB);
    let covered = ext4.path().join("covered");
    fs::create_dir(&covered).unwrap();
    fs::write(covered.join("file"), vec![1; 100_000]).unwrap();
    tree::set_attribute(&covered.join("file"), 3000);
    fs::write(ext4.path().join("seen"), vec![1; 50_000]).unwrap();
    mount_tmpfs(&covered, MIB, nix::mount::MsFlags::empty());
    takes_a_walk(ext4.path(), &["--hidden"], "hidden_by_mount");
    assert_eq!(only(&run(ext4.path(), "auto"))["method"], "inode_table");

    let at = ext4.beside("part");
    bind(&ext4.path().join("lost+found"), &at);
    nix::mount::umount(&covered).unwrap();
    nix::mount::umount(ext4.path()).unwrap();
    takes_a_walk(&at, &[], "outside_mount");
}

fn takes_a_walk(path: &Path, args: &[&str], cause: &str) {
    let refused = counting(path, "table").args(args).refused("");
    let reason = refused.errors();
    let report = counting(path, "auto").args(args).in_pid_namespace().run().json();
    let fs_report = only(&report);
    assert_eq!(fs_report["method"], "walk");
    assert!(reason.contains(fs_report["method_note"].as_str().unwrap()), "{reason}: {fs_report:#}");
    assert!(row(fs_report, cause) >= 100_000, "{fs_report:#}");
    assert!(row(fs_report, "metadata") > 0, "{fs_report:#}");
    assert_eq!(row(fs_report, "unexplained"), 0, "{fs_report:#}");
}

/// The part that is an overlay's, and the directory whose list of names is the longest.
#[test]
fn directories_of_which_more_is_told() {
    require_root!();
    let ext4 = Filesystem::ext4_with(16 * MIB, &["-b", "1024"], "max_dir_size_kb=16");
    let lower = ext4.path().join("lower");
    fs::create_dir(&lower).unwrap();
    let overlay = Overlay::new(&lower, &ext4, "an");
    let merged = &overlay.at;
    fs::create_dir(merged.join("full")).unwrap();
    let long = "x".repeat(200);
    (0..1000)
        .find_map(|number| fs::write(merged.join(format!("full/{number}{long}")), "text").err())
        .unwrap();
    tree::nasty(&merged.join("nasty"), 3);
    tool("sync", &["-f".as_ref(), ext4.path().as_os_str()]);
    let (tables, walk) = (run(merged, "table"), run(merged, "walk"));
    let (tables, walk) = (only(&tables), only(&walk));
    for field in ["overlay", "findings"] {
        assert_eq!(tables[field], walk[field]);
    }
    let bytes: u64 = ["an-upper", "an-work"].map(|name| du(&ext4.path().join(name))).iter().sum();
    assert_eq!(tables["overlay"]["upper_bytes"], bytes, "{tables:#}");
    assert_eq!(tables["findings"][0]["code"], "directory_at_limit", "{tables:#}");
}

#[test]
fn the_device_keeps_its_access_time() {
    require_root!();
    let filesystem = Filesystem::ext4(32 * MIB);
    let node = only(&run(filesystem.path(), "table"))["source"].as_str().unwrap().to_owned();
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::open(&node).unwrap().set_times(FileTimes::new().set_accessed(long_ago)).unwrap();
    run(filesystem.path(), "table");
    assert_eq!(fs::metadata(&node).unwrap().accessed().unwrap(), long_ago);
}
