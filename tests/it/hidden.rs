// SPDX-License-Identifier: MIT OR Apache-2.0

//! `--hidden`: what lies beneath mount points, by name; and that looking there leaves no trace.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::filesystem::{Filesystem, bind, mount_tmpfs};
use crate::support::fuse::Fuse;
use crate::support::report::{list, number, only, row, skips};
use crate::support::whyfull::{Whyfull, whyfull};
use crate::support::{MIB, du, du_inodes, tree};

fn write(path: &Path, size: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
}

fn hidden(path: &Path) -> Whyfull {
    whyfull().arg("--hidden").arg(path)
}

/// The `hidden` entry of a mount point.
fn entry<'a>(fs: &'a Value, mountpoint: &Path) -> &'a Value {
    let mut all = list(&fs["hidden"]).iter();
    let entry = all.find(|entry| entry["mountpoint"] == mountpoint.to_str().unwrap());
    entry.unwrap_or_else(|| panic!("{}: {:#}", mountpoint.display(), fs["hidden"]))
}

/// Path, bytes and inodes.
type Name = (PathBuf, i128, i128);

/// What is listed beneath a mount point.
fn listed(entry: &Value) -> Vec<Name> {
    let name = |name: &Value| {
        (name["path"].as_str().unwrap().into(), number(&name["bytes"]), number(&name["inodes"]))
    };
    list(&entry["largest"]).iter().map(name).collect()
}

/// The same by du, for a directory that is not covered yet: names at most `depth` levels below it.
fn by_du(root: &Path, depth: usize) -> Vec<Name> {
    let names = walkdir::WalkDir::new(root).min_depth(1).max_depth(depth);
    let sized = |path: PathBuf| (path.clone(), i128::from(du(&path)), i128::from(du_inodes(&path)));
    let mut all: Vec<_> = names.into_iter().map(|name| sized(name.unwrap().into_path())).collect();
    all.retain(|(_, bytes, _)| *bytes > 0);
    all.sort_by_key(|(path, bytes, _)| (-bytes, fs::symlink_metadata(path).unwrap().ino()));
    all
}

fn filesystems() -> [Filesystem; 3] {
    [Filesystem::ext4(64 * MIB), Filesystem::xfs(), Filesystem::tmpfs(64 * MIB)]
}

#[test]
fn the_largest_names_are_listed_as_du_counts_them() {
    require_root!();
    for fs in filesystems() {
        let (covered, empty) = (fs.path().join("var/lib/covered"), fs.path().join("empty"));
        for (name, size) in
            [("a/b/c", 3 * MIB), ("a/d", 2 * MIB), ("file", 4 * MIB), ("small", 1), ("zero", 0)]
        {
            write(&covered.join(name), size);
        }
        fs::create_dir(&empty).unwrap();
        let (shallow, deep) = (by_du(&covered, 1), by_du(&covered, 3));
        for mount_point in [&covered, &empty] {
            mount_tmpfs(mount_point, MIB, MsFlags::empty());
        }
        let of = |args: &[&str]| {
            let report = hidden(fs.path()).args(args).report();
            assert!(listed(entry(only(&report), &empty)).is_empty(), "{report:#}");
            listed(entry(only(&report), &covered))
        };
        assert_eq!(of(&[]), shallow);
        assert_eq!(of(&["-d3", "-j3"]), deep);
        assert_eq!(of(&["-n", "2"]), shallow[..2]);
        assert_eq!(of(&["-n", "0"]), []);

        let plain = whyfull().arg(fs.path()).report();
        assert!(entry(only(&plain), &covered)["largest"].is_null(), "only if asked for");
        let text = hidden(fs.path()).run();
        let line = |path: &str| text.text().lines().any(|line| line.ends_with(path) && line.contains("MiB"));
        assert!(line(covered.to_str().unwrap()) && line("/covered/a") && line("/covered/file"), "{text:?}");
    }
}

#[test]
fn a_large_directory_right_beneath_a_mount_point() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    let covered = fs.path().join("covered");
    tree::flat(&covered, 20_000);
    write(&covered.join("one"), MIB);
    write(&covered.join("two"), 2 * MIB);
    mount_tmpfs(&covered, MIB, MsFlags::empty());
    for threads in ["-j1", "-j4"] {
        let report = hidden(fs.path()).args(&["-n3", threads]).report();
        let names = listed(entry(only(&report), &covered));
        let largest = ["two", "one"].map(|name| covered.join(name));
        assert_eq!(names.iter().take(2).map(|(path, ..)| path.clone()).collect::<Vec<_>>(), largest);
        assert_eq!(names.len(), 3, "{names:?}");
    }
}

#[test]
fn an_inode_is_listed_once_and_only_if_it_is_hidden() {
    require_root!();
    for fs in filesystems() {
        let (covered, other) = (fs.path().join("covered"), fs.path().join("other"));
        write(&covered.join("z/inside"), MIB);
        write(&covered.join("seen too"), 2 * MIB);
        write(&other.join("file"), 1);
        fs::hard_link(covered.join("z/inside"), covered.join("inside")).unwrap();
        fs::hard_link(covered.join("z/inside"), covered.join("also inside")).unwrap();
        fs::hard_link(covered.join("seen too"), fs.path().join("visible")).unwrap();
        // Beneath two mount points: it is the first one's.
        fs::hard_link(covered.join("inside"), other.join("elsewhere")).unwrap();
        mount_tmpfs(&covered, MIB, MsFlags::empty());
        mount_tmpfs(&other, MIB, MsFlags::empty());
        let report = hidden(fs.path()).args(&["-d", "5"]).report();
        let fs_report = only(&report);
        let names = [&covered, &other].map(|point| listed(entry(fs_report, point))).concat();
        let large: Vec<_> =
            names.iter().filter(|(path, bytes, _)| *bytes >= i128::from(MIB) && !path.is_dir()).collect();
        assert_eq!(large.len(), 1, "{fs_report:#}");
        let sum = entry(fs_report, &covered)["bytes"].as_u64().unwrap()
            + entry(fs_report, &other)["bytes"].as_u64().unwrap();
        assert_eq!(row(fs_report, "hidden_by_mount"), i128::from(sum));
        assert_eq!(row(fs_report, "visible"), i128::from(du(fs.path())));
    }
}

#[test]
fn a_mount_point_stands_for_what_lies_beneath_it() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (covered, beside) = (fs.path().join("covered"), fs.path().join("beside"));
    write(&covered.join("file"), MIB);
    write(&beside.join("file"), MIB);
    let below = by_du(&covered, 1);
    // Twice at the same place: both are on top of the filesystem.
    for mount_point in [&covered, &covered, &beside] {
        mount_tmpfs(mount_point, MIB, MsFlags::empty());
    }
    let report = hidden(&covered).report();
    assert_eq!(only(&report)["mountpoint"], fs.path().to_str().unwrap());
    assert_eq!(listed(entry(only(&report), &covered)), below);
    assert!(entry(only(&report), &beside)["largest"].is_null(), "{report:#}");
    let both = hidden(&covered).arg(&beside).report();
    assert!(entry(only(&both), &beside)["largest"].is_array(), "{both:#}");
    let run = hidden(&covered).run();
    let (_, table) = run.text().split_once("Hidden under mount points:").unwrap();
    assert!(!table.contains(beside.to_str().unwrap()), "{run:?}");

    // A directory on what is mounted there is on that filesystem, as always.
    write(&covered.join("sub/file"), 1);
    assert_eq!(only(&hidden(&covered.join("sub")).report())["fstype"], "tmpfs");
    // More is mounted on it: then that may be meant as well.
    mount_tmpfs(&covered.join("sub"), MIB, MsFlags::empty());
    let report = hidden(&covered).report();
    let of = list(&report["filesystems"]).iter();
    let of: Vec<_> = of.map(|fs| fs["mountpoint"].as_str().unwrap()).collect();
    assert_eq!(of, [fs.path().to_str().unwrap(), covered.to_str().unwrap()]);
    assert!(entry(&report["filesystems"][1], &covered.join("sub"))["largest"].is_array());
}

#[test]
fn what_is_mounted_there_need_not_answer() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let dead = fs.path().join("dead");
    write(&dead.join("file"), MIB);
    let below = by_du(&dead, 1);
    let _fuse = Fuse::dead(&dead);
    let run = hidden(&dead).args(&["--timeout", "300ms"]).within(Duration::from_secs(20));
    assert_eq!(listed(entry(only(&run.report()), &dead)), below);
}

#[test]
fn a_bound_file_and_a_bound_directory_hide_what_they_cover() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (covered, above) = (fs.path().join("covered"), fs.path().join("above"));
    write(&covered, 2 * MIB);
    write(&above, MIB);
    let (directory, shown) = (fs.path().join("directory"), fs.path().join("shown"));
    write(&directory.join("file"), 3 * MIB);
    write(&shown.join("file"), MIB);
    let (all, below, bytes) = (du(fs.path()), by_du(&directory, 1), du(&covered));
    bind(&above, &covered);
    bind(&shown, &directory);
    // On the part that is bound there, not on the filesystem's own mount: it hides nothing of that.
    fs::create_dir(shown.join("deeper")).unwrap();
    mount_tmpfs(&directory.join("deeper"), MIB, MsFlags::empty());
    let report = hidden(fs.path()).report();
    let fs_report = only(&report);
    assert_eq!(entry(fs_report, &covered)["bytes"], bytes);
    assert_eq!(listed(entry(fs_report, &directory)), below);
    assert_eq!(list(&fs_report["hidden"]).len(), 2, "{fs_report:#}");
    let seen = row(fs_report, "visible") + row(fs_report, "hidden_by_mount");
    let deeper = i128::from(fs::metadata(shown.join("deeper")).unwrap().blocks()) * 512;
    assert_eq!(seen, i128::from(all) + deeper, "each byte once");
    // Seen through the filesystem's own mount, `deeper` is hidden on the bound one only.
    let report = hidden(&directory.join("deeper")).report();
    assert_eq!(only(&report)["root"], "/shown", "{report:#}");
    assert!(entry(only(&report), &directory.join("deeper"))["largest"].is_array());
}

#[test]
fn without_the_right_to_look_beneath_that_is_said() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let covered = fs.path().join("covered");
    write(&covered.join("file"), MIB);
    fs::create_dir(fs.path().join("beside")).unwrap();
    mount_tmpfs(&covered, MIB, MsFlags::empty());
    for path in [&fs.path().join("beside"), &covered] {
        let run = hidden(path).by_nobody();
        let report = run.report();
        assert_eq!(list(&only(&report)["hidden"]).len(), 0, "{report:#}");
        assert_eq!(skips(only(&report), "mount").len(), 1);
        assert!(run.run().text().contains("1 mount"), "{:?}", run.run());
    }
}

#[test]
fn where_nothing_is_hidden_that_is_said() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let text = hidden(&fs.path().join("lost+found")).run();
    assert!(text.text().contains("Nothing is mounted on"), "{text:?}");
    let covered = fs.path().join("covered");
    fs::create_dir(&covered).unwrap();
    mount_tmpfs(&covered, MIB, MsFlags::empty());
    let text = hidden(&covered).run();
    let expected = format!("No files lie under {}", covered.display());
    assert!(text.text().contains(&expected), "{text:?}");
}

/// The mounts that a process has open and that no mount namespace lists: private ones.
fn private_mounts(pid: u32, listed: &str) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let private = entries.filter(|entry| {
        let link = fs::read_link(entry.path()).unwrap_or_default();
        let info = entry.path().to_string_lossy().replace("/fd/", "/fdinfo/");
        let info = fs::read_to_string(info).unwrap_or_default();
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
        let known = |id: &str| listed.lines().any(|line| line.split(' ').next() == Some(id));
        link.is_absolute() && id.is_some_and(|id| !known(id))
    });
    private.count()
}

#[test]
fn a_run_in_progress_changes_no_mount_and_blocks_none() {
    require_root!();
    let fs = Filesystem::tmpfs(256 * MIB);
    let covered = fs.path().join("covered");
    tree::flat(&covered, 30_000);
    let table = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let mut caught = false;
    for _ in 0..50 {
        mount_tmpfs(&covered, MIB, MsFlags::empty());
        let before = table();
        let running = whyfull().arg(fs.path()).args(&["-j1", "--json"]).start();
        let pid = running.pid();
        while fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|fds| fds.count() > 0) {
            let private = || running.worker().is_some_and(|worker| private_mounts(worker, &before) > 0);
            if private() {
                running.signal_worker(Signal::SIGSTOP);
                caught = private();
                break;
            }
        }
        assert_eq!(table(), before, "nobody sees the clone");
        // While it looks beneath: what is mounted there can be taken away.
        umount2(&covered, MntFlags::empty()).unwrap();
        running.signal_worker(Signal::SIGCONT);
        drop(running.finish().json());
        if caught {
            return;
        }
    }
    panic!("the run was never met while it looked beneath the mount point");
}
