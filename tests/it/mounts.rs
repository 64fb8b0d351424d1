// SPDX-License-Identifier: MIT OR Apache-2.0

//! One filesystem in many places, and places that cover each other.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use serde_json::Value;

use crate::support::filesystem::{Filesystem, bind, mount_tmpfs};
use crate::support::report::{list, only, report, row, skips};
use crate::support::whyfull::whyfull;
use crate::support::world::World;
use crate::support::{KIB, MIB, du, du_inodes, tool, tree};

fn write(path: &Path, size: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
}

fn visible(report: &Value) -> i128 {
    row(only(report), "visible")
}

/// The `hidden` entry of a mount point.
fn hidden_at<'a>(fs: &'a Value, mountpoint: &Path) -> &'a Value {
    let all = list(&fs["hidden"]).iter();
    let path = mountpoint.to_str().unwrap();
    let found: Vec<_> = all.filter(|h| h["mountpoint"] == path).collect();
    assert_eq!(found.len(), 1, "{path}: {:#}", fs["hidden"]);
    found[0]
}

#[test]
fn a_path_leads_to_the_root_of_its_filesystem() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    tree::nasty(&fs.path().join("tree"), 1);
    let file = fs.path().join("tree/links/left/deep/deeper/file");
    write(&file, 5000);
    let expected = i128::from(du(fs.path()));
    let mountpoint = fs.path().to_str().unwrap();
    for path in [fs.path(), file.parent().unwrap(), &file] {
        let report = report(path);
        assert_eq!(visible(&report), expected);
        let fs_report = only(&report);
        assert_eq!(fs_report["mountpoint"], mountpoint);
        assert_eq!(fs_report["root"], "/");
        assert_eq!(fs_report["fstype"], "ext4");
        assert!(fs_report["source"].as_str().unwrap().starts_with("/dev/loop"));
    }
    // Without a path it is the filesystem of the working directory.
    let run = whyfull().arg("--json").command().current_dir(file.parent().unwrap()).output();
    let report: Value = serde_json::from_slice(&run.unwrap().stdout).unwrap();
    assert_eq!(only(&report)["mountpoint"], mountpoint);
}

#[test]
fn a_symlink_leads_to_where_it_points() {
    require_root!();
    let fs = Filesystem::ext4(16 * MIB);
    let link = fs.beside("links").join("link");
    std::os::unix::fs::symlink(fs.path(), &link).unwrap();
    assert_eq!(only(&report(&link))["mountpoint"], fs.path().to_str().unwrap());
}

#[test]
fn bind_mounts_count_nothing_twice() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    tree::nasty(&fs.path().join("tree"), 2);
    let inside = fs.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let before = i128::from(du(fs.path()));

    let outside = fs.beside("outside");
    bind(fs.path(), &outside);
    assert_eq!(visible(&report(fs.path())), before);
    assert_eq!(visible(&report(&outside)), before);

    // GNU du counts a bind mount inside itself twice; bytes exist only once.
    let covered = i128::from(du(&inside));
    bind(&fs.path().join("tree"), &inside);
    let report = report(fs.path());
    assert_eq!(visible(&report), before - covered);
    let hidden = hidden_at(only(&report), &inside);
    assert_eq!(hidden["bytes"], du_of_covered(covered));
    assert_eq!(hidden["inodes"], 1);
}

fn du_of_covered(bytes: i128) -> u64 {
    u64::try_from(bytes).unwrap()
}

#[test]
fn a_bound_subdirectory_leads_to_the_whole() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    tree::nasty(&fs.path().join("tree"), 3);
    let part = fs.beside("part");
    bind(&fs.path().join("tree/links"), &part);
    let report = report(&part);
    let fs_report = only(&report);
    assert_eq!(fs_report["root"], "/");
    assert_eq!(fs_report["mountpoint"], fs.path().to_str().unwrap());
    assert_eq!(visible(&report), i128::from(du(fs.path())));
}

#[test]
fn a_bound_subdirectory_alone() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    tree::nasty(&fs.path().join("tree"), 4);
    let part = fs.beside("part");
    bind(&fs.path().join("tree/links"), &part);
    // Lazily: whoever scans /proc at this moment may touch it.
    nix::mount::umount2(fs.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    let report = report(&part);
    let fs_report = only(&report);
    assert_eq!(fs_report["root"], "/tree/links");
    assert_eq!(visible(&report), i128::from(du(&part)));
}

#[test]
fn what_a_mount_covers_is_hidden() {
    require_root!();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::tmpfs(64 * MIB)] {
        let covered = fs.path().join("deep/covered");
        write(&covered.join("sub/file"), 3 * MIB);
        write(&fs.path().join("beside"), MIB);
        let all = du(fs.path());
        let (bytes, inodes) = (du(&covered), du_inodes(&covered));
        mount_tmpfs(&covered, MIB, MsFlags::empty());
        write(&covered.join("of the tmpfs"), 100 * KIB);

        let full = report(fs.path());
        let fs_report = only(&full);
        let entry = hidden_at(fs_report, &covered);
        assert_eq!(entry["bytes"], bytes, "{entry:#}");
        assert_eq!(entry["inodes"], inodes, "{entry:#}");
        assert_eq!(row(fs_report, "visible"), i128::from(all - bytes));
        assert_eq!(visible(&report(&covered)), i128::from(du(&covered)));

        // Nobody cannot look beneath, and the amount is not made up.
        let limited = whyfull().arg(fs.path()).by_nobody().report();
        let fs_report = only(&limited);
        assert_eq!(row(fs_report, "visible"), i128::from(all - bytes));
        assert_eq!(row(fs_report, "hidden_by_mount"), 0);
        let skipped = skips(fs_report, "mount");
        assert_eq!(skipped.len(), 1, "{fs_report:#}");
        assert_eq!(skipped[0]["path"], covered.to_str().unwrap());
        assert_eq!(skipped[0]["needs"], "CAP_SYS_ADMIN");
    }
}

#[test]
fn names_on_both_sides_of_a_mount_are_visible() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let covered = fs.path().join("covered");
    write(&covered.join("only here"), MIB);
    write(&covered.join("also there"), 2 * MIB);
    fs::hard_link(covered.join("only here"), covered.join("again")).unwrap();
    fs::hard_link(covered.join("also there"), fs.path().join("visible")).unwrap();
    let all = du(fs.path());
    mount_tmpfs(&covered, MIB, MsFlags::empty());
    let report = report(fs.path());
    let fs_report = only(&report);
    let seen = du(fs.path());
    assert_eq!(row(fs_report, "visible"), i128::from(seen));
    let hidden = row(fs_report, "hidden_by_mount");
    assert_eq!(hidden, i128::from(all - seen), "{fs_report:#}");
}

#[test]
fn mounts_upon_mounts_hide_once() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let covered = fs.path().join("covered");
    write(&covered.join("inner/file"), MIB);
    let bytes = du(&covered);
    // The inner one first, then one over everything, and another on top.
    mount_tmpfs(&covered.join("inner"), MIB, MsFlags::empty());
    mount_tmpfs(&covered, MIB, MsFlags::empty());
    mount_tmpfs(&covered, MIB, MsFlags::empty());
    let report = report(fs.path());
    let hidden = row(only(&report), "hidden_by_mount");
    assert_eq!(hidden, i128::from(bytes), "{:#}", only(&report));
}

#[test]
fn a_file_can_be_covered_too() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (covered, above) = (fs.path().join("covered"), fs.path().join("above"));
    write(&covered, 2 * MIB);
    write(&above, MIB);
    let (all, bytes) = (du(fs.path()), du(&covered));
    bind(&above, &covered);
    let report = report(fs.path());
    let fs_report = only(&report);
    assert_eq!(row(fs_report, "visible"), i128::from(all - bytes));
    assert_eq!(hidden_at(fs_report, &covered)["bytes"], bytes);
}

#[test]
fn mountpoints_of_any_name() {
    require_root!();
    for name in ["two words", "new\nline", "back\\slash", "tab\t#hash", "\\040", "漢字"] {
        let fs = Filesystem::ext4(16 * MIB);
        let elsewhere = fs.beside(name);
        let covered = fs.path().join(name);
        write(&covered.join("file"), 50 * KIB);
        let bytes = du(&covered);
        mount_tmpfs(&covered, MIB, MsFlags::empty());
        let report_here = report(fs.path());
        assert_eq!(hidden_at(only(&report_here), &covered)["bytes"], bytes);
        let there = report(&covered);
        assert_eq!(only(&there)["mountpoint"], covered.to_str().unwrap());
        bind(&covered, &elsewhere);
        assert_eq!(visible(&report(&elsewhere)), visible(&there));
        let text = whyfull().arg(fs.path()).run();
        let stray = |c: char| c.is_control() && c != '\n';
        assert!(!text.text().contains(stray), "{text:?}");
    }
}

/// An overlay whose layers are all on `fs`.
fn overlay(fs: &Filesystem) -> PathBuf {
    let merged = fs.beside("merged");
    let layers = ["lower", "upper", "work"].map(|name| {
        let path = fs.path().join(name);
        fs::create_dir(&path).unwrap();
        path.into_os_string().into_string().unwrap()
    });
    write(&fs.path().join("lower/file"), MIB);
    let [lower, upper, work] = layers;
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let kind = Some("overlay");
    mount(kind, &merged, kind, MsFlags::empty(), Some(options.as_str())).unwrap();
    merged
}

#[test]
fn overlay_is_explained_by_its_upper_layer() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let merged = overlay(&fs);
    write(&merged.join("new"), MIB);
    let report = report(&merged);
    let fs_report = only(&report);
    assert_eq!(fs_report["fstype"], "ext4", "{fs_report:#}");
    assert_eq!(fs_report["root"], "/");
    assert_eq!(visible(&report), i128::from(du(fs.path())));
}

#[test]
fn of_the_filesystem_below_an_overlay_its_part_is_told() {
    require_root!();
    for fs in Filesystem::all() {
        let merged = overlay(&fs);
        tree::nasty(&merged.join("new"), 5);
        write(&fs.path().join("beside/file"), 2 * MIB);
        tool("sync", &["-f".as_ref(), fs.path().as_os_str()]);
        let report = report(&merged);
        let overlay = &only(&report)["overlay"];
        let parts = ["upper", "work"].map(|name| fs.path().join(name));
        let bytes: u64 = parts.iter().map(|part| du(part)).sum();
        let inodes: u64 = parts.iter().map(|part| du_inodes(part)).sum();
        assert_eq!(overlay["upper_bytes"], bytes, "{overlay:#}");
        assert_eq!(overlay["upper_inodes"], inodes, "{overlay:#}");
        let text = whyfull().arg(&merged).run();
        assert!(text.text().contains(&format!(" in {inodes} files.")), "{text:?}");
        // Named itself, the filesystem has no overlay.
        assert!(only(&crate::support::report::report(fs.path()))["overlay"].is_null());
    }
}

#[test]
fn all_lists_each_local_filesystem_once() {
    require_root!();
    let world = World::new();
    world.pseudo("sysfs", "sys");
    world.pseudo("cgroup2", "sys-cgroup");
    let disk = Filesystem::ext4(16 * MIB);
    write(&disk.path().join("sub/file"), MIB);
    for name in ["disk", "disk again"] {
        bind(disk.path(), &world.directory(name));
    }
    bind(&disk.path().join("sub"), &world.directory("disk part"));
    mount_tmpfs(&world.directory("scratch"), MIB, MsFlags::empty());

    let report = world.whyfull().arg("--all").report();
    let all = list(&report["filesystems"]);
    let of = |key: &str| {
        let mut found: Vec<_> = all.iter().map(|fs| fs[key].as_str().unwrap()).collect();
        found.sort_unstable();
        found
    };
    assert_eq!(of("fstype"), ["ext4", "tmpfs", "tmpfs"], "{report:#}");
    assert_eq!(of("root"), ["/", "/", "/"]);
    assert!(of("mountpoint").contains(&"/scratch"), "{report:#}");
    let text = world.whyfull().arg("-a").run();
    assert_eq!(text.text().matches(" ext4 on ").count(), 1, "{text:?}");
}

#[test]
fn pseudo_filesystems_are_explained_when_named() {
    require_root!();
    let world = World::new();
    let run = world.whyfull().arg(OsStr::new("/proc")).run();
    assert!(matches!(run.code(), Some(0..=2)), "{run:?}");
    assert!(run.signal().is_none() && !run.errors().contains("panicked"));
}
