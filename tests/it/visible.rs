// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is visible is what `du -sx --block-size=1` counts, to the byte.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::mount::MsFlags;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use serde_json::Value;

use crate::support::filesystem::Filesystem;
use crate::support::report::{list, number, only, report, row, skips, skips_but_processes};
use crate::support::whyfull::{Whyfull, whyfull};
use crate::support::{MIB, du, du_as_nobody, du_inodes, tree};

/// Every way to count must agree with the oracle.
fn agrees(root: &Path) {
    // The inode tables have what is on its way to the disk once it is there, however busy the machine.
    nix::unistd::syncfs(fs::File::open(root).unwrap()).unwrap();
    let expected = i128::from(du(root));
    for run in ways(root) {
        let report = run.report();
        let fs = only(&report);
        assert_eq!(row(fs, "visible"), expected, "{fs:#}");
        let skipped = skips_but_processes(fs);
        assert!(skipped.is_empty(), "root reads everything: {skipped:#?}");
    }
}

fn ways(root: &Path) -> Vec<Whyfull> {
    let base = || whyfull().arg(root).args(&["--method", "walk"]);
    vec![
        whyfull().arg(root),
        base().args(&["-j1"]),
        base().args(&["-j", "2"]),
        base().args(&["--threads=16"]),
        base().open_files(256),
        base().open_files(64).args(&["-j16"]),
        base().arg("-x"),
    ]
}

#[test]
fn nasty_tree_on_ext4() {
    require_root!();
    let fs = Filesystem::ext4(128 * MIB);
    tree::nasty(&fs.path().join("tree"), 1);
    agrees(fs.path());
}

#[test]
fn nasty_tree_on_tmpfs() {
    require_root!();
    let fs = Filesystem::tmpfs(128 * MIB);
    tree::nasty(&fs.path().join("tree"), 2);
    agrees(fs.path());
}

#[test]
fn nasty_tree_on_xfs() {
    require_root!();
    let fs = Filesystem::xfs();
    tree::nasty(&fs.path().join("tree"), 3);
    agrees(fs.path());
}

#[test]
fn nasty_tree_on_btrfs() {
    require_root!();
    let fs = Filesystem::btrfs();
    tree::nasty(&fs.path().join("tree"), 4);
    // Until the data is on disk, btrfs changes what it says is allocated.
    nix::unistd::sync();
    agrees(fs.path());
}

#[test]
fn btrfs_subvolumes_are_not_crossed() {
    require_root!();
    let fs = Filesystem::btrfs();
    tree::hard_links(&fs.path().join("links"));
    let subvolume = fs.path().join("subvolume");
    crate::support::tool("btrfs", &["subvolume".as_ref(), "create".as_ref(), subvolume.as_ref()]);
    fs::write(subvolume.join("file"), vec![b'x'; 300_000]).unwrap();
    nix::unistd::sync();
    let report = report(fs.path());
    let fs_report = only(&report);
    assert_eq!(row(fs_report, "visible"), i128::from(du(fs.path())));
}

#[test]
fn nasty_tree_as_nobody() {
    require_root!();
    for fs in [Filesystem::ext4(128 * MIB), Filesystem::tmpfs(128 * MIB)] {
        let root = fs.path().join("tree");
        tree::nasty(&root, 5);
        let expected = i128::from(du_as_nobody(fs.path()));
        assert!(expected < i128::from(du(fs.path())));
        for run in ways(fs.path()) {
            let report = run.by_nobody().report();
            let fs_report = only(&report);
            assert_eq!(row(fs_report, "visible"), expected, "{fs_report:#}");
            assert_eq!(report["complete"], false);
            let closed = root.join("unreadable/mode000");
            let skipped = skips(fs_report, "directory");
            let skip = skipped.iter().find(|s| s["path"] == closed.to_str().unwrap());
            let skip = skip.unwrap_or_else(|| panic!("{skipped:#?}"));
            assert_eq!(skip["errno"], "EACCES");
            assert_eq!(skip["needs"], "CAP_DAC_READ_SEARCH");
        }
    }
}

#[test]
fn deeper_than_any_path() {
    require_root!();
    let fs = Filesystem::ext4_with(128 * MIB, &["-N", "30000"], "");
    tree::chain(&fs.path().join("narrow"), "a", 5200);
    tree::chain(&fs.path().join("wide"), &"n".repeat(255), 40);
    agrees(fs.path());
}

#[test]
fn many_entries_in_one_directory() {
    require_root!();
    for fs in [Filesystem::ext4_with(64 * MIB, &["-N", "30000"], ""), Filesystem::tmpfs(64 * MIB)] {
        tree::flat(&fs.path().join("flat"), 20_000);
        agrees(fs.path());
    }
}

#[test]
fn an_empty_filesystem() {
    require_root!();
    for fs in [Filesystem::ext4(16 * MIB), Filesystem::tmpfs(MIB)] {
        agrees(fs.path());
    }
}

#[test]
fn inodes_are_counted_once() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    tree::nasty(&fs.path().join("tree"), 6);
    let report = report(fs.path());
    let rows = list(&only(&report)["ledger"]);
    let visible = rows.iter().find(|row| row["cause"] == "visible").unwrap();
    assert_eq!(visible["inodes"], du_inodes(fs.path()), "{visible:#}");
}

#[test]
fn capacity_is_what_statvfs_says() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    tree::nasty(&fs.path().join("tree"), 7);
    nix::unistd::sync();
    let vfs = nix::sys::statvfs::statvfs(fs.path()).unwrap();
    let bytes = |blocks: u64| i128::from(blocks) * i128::from(vfs.fragment_size());
    let report = report(fs.path());
    let capacity = &only(&report)["capacity"];
    let expected = [
        ("size_bytes", bytes(vfs.blocks())),
        ("used_bytes", bytes(vfs.blocks() - vfs.blocks_free())),
        ("free_bytes", bytes(vfs.blocks_free())),
        ("available_bytes", bytes(vfs.blocks_available())),
        ("reserved_bytes", bytes(vfs.blocks_free() - vfs.blocks_available())),
        ("inodes", i128::from(vfs.files())),
        ("inodes_free", i128::from(vfs.files_free())),
    ];
    for (name, value) in expected {
        assert_eq!(number(&capacity[name]), value, "{name}: {capacity:#}");
    }
}

#[test]
fn directories_are_cumulative_like_du() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    // No hard links across: those du counts where it meets them first.
    tree::ordinary(&fs.path().join("ordinary"), &mut tree::Random::new(8));
    tree::names(&fs.path().join("names"), &mut tree::Random::new(9));
    let report = whyfull().arg(fs.path()).args(&["--dirs", "30"]).report();
    let directories = list(&only(&report)["directories"]);
    assert!(!directories.is_empty() && directories.len() <= 30);
    let sizes: Vec<_> = directories.iter().map(|d| number(&d["bytes"])).collect();
    assert!(sizes.is_sorted_by(|a, b| a >= b), "{directories:#?}");
    for directory in directories {
        let path = exact_path(directory);
        assert_eq!(number(&directory["bytes"]), i128::from(du(&path)), "{path:?}");
        assert_eq!(directory["inodes"], du_inodes(&path), "{path:?}");
    }
}

/// The path as bytes: `path_base64` where `path` cannot say it.
fn exact_path(entry: &Value) -> PathBuf {
    use base64::Engine;
    use std::os::unix::ffi::OsStringExt;
    let Some(encoded) = entry["path_base64"].as_str() else {
        return entry["path"].as_str().unwrap().into();
    };
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded);
    std::ffi::OsString::from_vec(bytes.unwrap()).into()
}

#[test]
fn depth_and_number_of_directories_are_limits() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    for path in ["a/b/c", "d/e/f", "g"] {
        let path = fs.path().join(path);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("file"), vec![b'x'; 100_000]).unwrap();
    }
    let of = |args: &[&str]| {
        let report = whyfull().arg(fs.path()).args(args).report();
        list(&only(&report)["directories"]).to_vec()
    };
    let depth = |d: &Value| {
        let path = exact_path(d);
        path.strip_prefix(fs.path()).unwrap().components().count()
    };
    let top = of(&["-d", "1", "--dirs", "50"]);
    assert_eq!(top.iter().filter(|d| depth(d) == 1).count(), 3, "{top:#?}");
    assert!(top.iter().all(|d| depth(d) <= 1), "{top:#?}");
    let deeper = of(&["--depth=3", "--dirs", "50"]);
    assert_eq!(deeper.iter().filter(|d| depth(d) == 3).count(), 2, "{deeper:#?}");
    assert_eq!(of(&["--dirs", "2"]).len(), 2);
}

#[test]
fn entries_that_vanish_and_change_in_mid_walk() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    let root = fs.path().join("churn");
    tree::ordinary(&root, &mut tree::Random::new(10));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                churn(&root);
            }
        });
        let runs = (0..20).map(|round| {
            let run = whyfull().arg(fs.path()).arg("--json");
            run.args(&["-j", ["1", "2", "8"][round % 3]]).run()
        });
        let runs: Vec<_> = runs.collect();
        done.store(true, Ordering::Relaxed);
        for run in runs {
            assert!(matches!(run.code(), Some(0 | 1)), "{run:?}");
            assert_eq!(run.errors(), "");
            // A vanished entry is no entry: nothing of it was left out.
            let report = run.json();
            let skipped = skips_but_processes(only(&report));
            assert!(skipped.is_empty(), "{skipped:#?}");
        }
    });
}

/// One name as file, directory, symlink; a moving subtree; a removed one.
fn churn(root: &Path) {
    let (one, two, tree) = (root.join("one"), root.join("two"), root.join("tree"));
    for _ in 0..20 {
        fs::write(&one, vec![b'x'; 20_000]).unwrap();
        fs::rename(&one, &two).unwrap();
        fs::remove_file(&two).unwrap();
        fs::create_dir(&one).unwrap();
        fs::write(one.join("file"), "x").unwrap();
        fs::remove_dir_all(&one).unwrap();
        symlink("/", &one).unwrap();
        fs::remove_file(&one).unwrap();
        fs::create_dir_all(tree.join("a/b/c/d")).unwrap();
        fs::rename(tree.join("a/b"), root.join("moved")).unwrap();
        fs::remove_dir_all(root.join("moved")).unwrap();
        fs::remove_dir_all(&tree).unwrap();
    }
}

#[test]
fn access_times_stay() {
    require_root!();
    let old = TimeSpec::new(1_000_000_000, 0);
    for fs in [
        Filesystem::ext4_with(64 * MIB, &[], "strictatime"),
        Filesystem::tmpfs_with(64 * MIB, MsFlags::MS_STRICTATIME),
    ] {
        tree::ordinary(&fs.path().join("tree"), &mut tree::Random::new(11));
        tree::special(&fs.path().join("special"));
        let mut paths: Vec<_> =
            walkdir::WalkDir::new(fs.path()).into_iter().map(|entry| entry.unwrap().into_path()).collect();
        // The deepest first: setting the time of one reads the directories above.
        paths.reverse();
        for path in &paths {
            let flag = UtimensatFlags::NoFollowSymlink;
            utimensat(nix::fcntl::AT_FDCWD, path, &old, &old, flag).unwrap();
        }
        drop(report(fs.path()));
        for path in &paths {
            let time = fs::symlink_metadata(path).unwrap().atime();
            assert_eq!(time, 1_000_000_000, "{}", path.display());
        }
    }
}

/// A real tree of some hundred thousand files, in the report's list of directories.
#[test]
fn usr_of_this_machine() {
    require_root!();
    let usr = Path::new("/usr");
    let report = whyfull().arg(usr).args(&["--depth=1", "--dirs=1000"]).report();
    let mounted_there = only(&report)["mountpoint"] == "/usr";
    let listed = list(&only(&report)["directories"]).iter().find(|directory| directory["path"] == "/usr");
    let bytes = if let Some(directory) = listed {
        number(&directory["bytes"])
    } else {
        assert!(mounted_there, "/usr is a directory or a filesystem: {report:#}");
        row(only(&report), "visible")
    };
    assert_eq!(bytes, i128::from(du(usr)));
}
