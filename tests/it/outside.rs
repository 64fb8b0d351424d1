// SPDX-License-Identifier: MIT OR Apache-2.0

//! Filesystems of which only a part is mounted: what lies outside of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use serde_json::Value;

use crate::support::child::tie_to_test;
use crate::support::filesystem::{Filesystem, bind, mount_tmpfs};
use crate::support::holder::Holder;
use crate::support::report::{list, number, only, report, row, skips, skips_but_processes};
use crate::support::whyfull::whyfull;
use crate::support::world::World;
use crate::support::{MIB, du, du_inodes, tree};

fn write(path: &Path, size: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
}

fn on_devices() -> Vec<Filesystem> {
    vec![
        Filesystem::ext4(64 * MIB),
        Filesystem::ext4_with(64 * MIB, &["-t", "ext2"], ""),
        Filesystem::ext4_with(64 * MIB, &["-t", "ext3"], ""),
        Filesystem::xfs(),
    ]
}

/// What du counts of all and of a part.
struct Counted {
    all: i128,
    inodes: i128,
    part: i128,
}

fn count(fs: &Filesystem, part: &str) -> Counted {
    let (all, inodes) = (i128::from(du(fs.path())), i128::from(du_inodes(fs.path())));
    Counted { all, inodes, part: i128::from(du(&fs.path().join(part))) }
}

/// Binds a part beside the filesystem and takes the whole away.
fn only_a_part(fs: &Filesystem, part: &str) -> PathBuf {
    let at = fs.beside("part");
    bind(&fs.path().join(part), &at);
    // Lazily: whoever scans /proc at this moment may touch it.
    umount2(fs.path(), MntFlags::MNT_DETACH).unwrap();
    at
}

fn row_of<'a>(fs: &'a Value, cause: &str) -> &'a Value {
    let mut rows = list(&fs["ledger"]).iter();
    rows.find(|row| row["cause"] == cause).unwrap_or_else(|| panic!("{cause}: {fs:#}"))
}

#[test]
fn all_else_is_outside_each_inode_once() {
    require_root!();
    for fs in on_devices() {
        tree::nasty(&fs.path().join("srv/tree"), 1);
        tree::nasty(&fs.path().join("elsewhere"), 2);
        write(&fs.path().join("large"), 5 * MIB);
        // Names on both sides.
        write(&fs.path().join("srv/tree/here"), 2 * MIB);
        fs::hard_link(fs.path().join("srv/tree/here"), fs.path().join("there")).unwrap();
        let counted = count(&fs, "srv/tree");
        nix::unistd::sync();
        let table = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let used = used(fs.path());
        let part = only_a_part(&fs, "srv/tree");
        let before = table();

        let report = report(&part);
        let fs_report = only(&report);
        assert_eq!(table(), before);
        assert_eq!(fs_report["root"], "/srv/tree");
        assert_eq!(row(fs_report, "visible"), i128::from(du(&part)));
        assert_eq!(row(fs_report, "visible"), counted.part);
        let outside = row_of(fs_report, "outside_mount");
        assert_eq!(number(&outside["bytes"]), counted.all - counted.part, "{outside:#}");
        assert_eq!(outside["basis"], "measured");
        let inodes = i128::from(du_inodes(&part)) + number(&outside["inodes"]);
        assert_eq!(inodes, counted.inodes, "{outside:#}");
        assert_eq!(outside["detail"][0]["name"], "/large", "{outside:#}");
        assert_eq!(outside["detail"][1]["name"], "/elsewhere", "{outside:#}");
        assert!(skips_but_processes(fs_report).is_empty(), "{:#}", fs_report["skipped"]);
        // What nothing explains is as much as on the whole; on ext2, ext3 and ext4 the inode tables
        // explain that.
        let is_ext = fs_report["fstype"].as_str().unwrap().starts_with("ext");
        let rest = if is_ext { 0 } else { used - counted.all };
        assert_eq!(row(fs_report, "unexplained"), rest, "{fs_report:#}");

        let text = whyfull().arg(&part).run();
        assert!(text.text().contains("outside this mount"), "{text:?}");
        assert!(text.text().contains("mounted: /srv/tree"), "{text:?}");
        assert!(!text.text().contains("not counted"), "{text:?}");
        umount2(&part, MntFlags::empty()).unwrap();
    }
}

fn used(path: &Path) -> i128 {
    let vfs = nix::sys::statvfs::statvfs(path).unwrap();
    i128::from(vfs.blocks() - vfs.blocks_free()) * i128::from(vfs.fragment_size())
}

#[test]
fn a_read_only_filesystem() {
    require_root!();
    for fs in on_devices() {
        write(&fs.path().join("srv/inside"), MIB);
        write(&fs.path().join("outside"), 2 * MIB);
        nix::unistd::sync();
        mount(None::<&str>, fs.path(), None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>)
            .unwrap();
        let counted = count(&fs, "srv");
        let part = only_a_part(&fs, "srv");
        assert_eq!(row(only(&report(&part)), "outside_mount"), counted.all - counted.part);
    }
}

#[test]
fn a_part_that_is_a_single_file() {
    require_root!();
    for links in [1, 2] {
        let fs = Filesystem::ext4(64 * MIB);
        write(&fs.path().join("dir/hosts"), MIB);
        write(&fs.path().join("dir/other"), 2 * MIB);
        if links == 2 {
            fs::hard_link(fs.path().join("dir/hosts"), fs.path().join("again")).unwrap();
        }
        let counted = count(&fs, "dir/hosts");
        let part = fs.beside("beside").join("hosts");
        write(&part, 1);
        bind(&fs.path().join("dir/hosts"), &part);
        umount2(fs.path(), MntFlags::MNT_DETACH).unwrap();
        let report = report(&part);
        assert_eq!(row(only(&report), "visible"), counted.part);
        assert_eq!(row(only(&report), "outside_mount"), counted.all - counted.part, "{report:#}");
    }
}

#[test]
fn hidden_inside_and_mounted_on_outside() {
    require_root!();
    for fs in on_devices() {
        let (inside, outside) = (fs.path().join("srv/covered"), fs.path().join("mnt"));
        write(&inside.join("file"), 2 * MIB);
        write(&outside.join("file"), 3 * MIB);
        // Beneath the mount point and outside: it is hidden.
        fs::hard_link(inside.join("file"), fs.path().join("again")).unwrap();
        let counted = count(&fs, "srv");
        let beneath = i128::from(du(&inside));
        mount_tmpfs(&outside, MIB, MsFlags::empty());
        let part = only_a_part(&fs, "srv");
        mount_tmpfs(&part.join("covered"), MIB, MsFlags::empty());
        let report = report(&part);
        let fs_report = only(&report);
        assert_eq!(row(fs_report, "visible"), counted.part - beneath);
        assert_eq!(row(fs_report, "hidden_by_mount"), beneath);
        assert_eq!(row(fs_report, "outside_mount"), counted.all - counted.part, "{fs_report:#}");
    }
}

#[test]
fn what_is_deleted_outside_is_no_part_of_it() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    write(&fs.path().join("srv/file"), MIB);
    write(&fs.path().join("file"), MIB);
    let holder = Holder::start_sized("fd", &fs.path().join("deleted"), 2 * MIB);
    let counted = count(&fs, "srv");
    let part = only_a_part(&fs, "srv");
    let report = report(&part);
    assert_eq!(row(only(&report), "outside_mount"), counted.all - counted.part);
    let held = row(only(&report), "unlinked_open") + row(only(&report), "unlinked_unattributed");
    assert_eq!(held, i128::from(holder.bytes()));
}

/// A process that waits; with `--mount` in a mount namespace of its own, in which all stays mounted.
struct Elsewhere(Child);

impl Elsewhere {
    fn start(unshare: &[&str]) -> Self {
        use std::io::{BufRead, BufReader};
        let mut command = Command::new("unshare");
        command.args(unshare).args(["sh", "-c", "echo ready; read line"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        tie_to_test(&mut command, None);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// tmpfs has no device by which to find it: its root can only be one that is mounted.
#[test]
fn the_whole_is_mounted_in_another_namespace() {
    require_root!();
    for fs in [Filesystem::tmpfs(64 * MIB), Filesystem::ext4(64 * MIB)] {
        write(&fs.path().join("srv/file"), MIB);
        write(&fs.path().join("covered/there/file"), 2 * MIB);
        write(&fs.path().join("file"), 3 * MIB);
        let counted = count(&fs, "srv");
        mount_tmpfs(&fs.path().join("covered/there"), MIB, MsFlags::empty());
        let elsewhere = Elsewhere::start(&["--mount"]);
        let part = only_a_part(&fs, "srv");
        let table = || fs::read_to_string(format!("/proc/{}/mountinfo", elsewhere.0.id())).unwrap();
        let before = table();
        let report = report(&part);
        assert_eq!(row(only(&report), "visible"), counted.part);
        assert_eq!(row(only(&report), "outside_mount"), counted.all - counted.part, "{report:#}");
        assert_eq!(table(), before);
    }
}

/// Where there is no way to the rest, it is not made up.
#[test]
fn the_rest_of_a_tmpfs_that_is_mounted_nowhere() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    write(&fs.path().join("srv/file"), MIB);
    write(&fs.path().join("file"), 3 * MIB);
    let part = only_a_part(&fs, "srv");
    let report = report(&part);
    assert_eq!(row(only(&report), "outside_mount"), 0);
    assert_eq!(skips(only(&report), "outside").len(), 1, "{report:#}");
}

#[test]
fn an_ordinary_user_is_told_how_to_see_it() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    write(&fs.path().join("srv/file"), MIB);
    let part = only_a_part(&fs, "srv");
    let run = whyfull().arg(&part).by_nobody();
    let report = run.report();
    let skipped = skips(only(&report), "outside");
    assert_eq!((skipped.len(), &skipped[0]["needs"]), (1, &Value::from("CAP_SYS_ADMIN")), "{report:#}");
    let text = run.run();
    assert!(text.text().contains("1 part that is not mounted"), "{text:?}");
}

/// Another root directory shows a part only, and the whole is mounted beyond it, in the same namespace.
#[test]
fn the_whole_is_mounted_outside_of_the_root_directory() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    write(&fs.path().join("srv/file"), MIB);
    write(&fs.path().join("file"), 3 * MIB);
    let counted = count(&fs, "srv");
    let world = World::new();
    bind(&fs.path().join("srv"), &world.directory("srv"));
    // Somebody who sees it, as there always is.
    let _other = Elsewhere::start(&[]);
    let report = world.whyfull().arg("/srv").report();
    assert_eq!(only(&report)["root"], "/srv");
    assert_eq!(row(only(&report), "outside_mount"), counted.all - counted.part, "{report:#}");
}

#[test]
fn access_times_stay_outside_and_beneath() {
    require_root!();
    let old = TimeSpec::new(1_000_000_000, 0);
    let strict = || Filesystem::ext4_with(64 * MIB, &[], "strictatime");
    for fs in [strict(), Filesystem::tmpfs_with(64 * MIB, MsFlags::MS_STRICTATIME)] {
        fs::create_dir_all(fs.path().join("srv/covered")).unwrap();
        tree::ordinary(&fs.path().join("srv/covered/tree"), &mut tree::Random::new(3));
        tree::ordinary(&fs.path().join("tree"), &mut tree::Random::new(4));
        let mut paths: Vec<_> =
            walkdir::WalkDir::new(fs.path()).into_iter().map(|entry| entry.unwrap().into_path()).collect();
        // The deepest first: setting the time of one reads the directories above.
        paths.reverse();
        for path in &paths {
            let flag = UtimensatFlags::NoFollowSymlink;
            utimensat(nix::fcntl::AT_FDCWD, path, &old, &old, flag).unwrap();
        }
        let again = fs.beside("again");
        bind(fs.path(), &again);
        let part = fs.beside("part");
        bind(&fs.path().join("srv"), &part);
        mount_tmpfs(&part.join("covered"), MIB, MsFlags::empty());
        let world = World::new();
        let _other = Elsewhere::start(&[]);
        bind(&part, &world.directory("srv"));
        mount_tmpfs(&world.path("srv/covered"), MIB, MsFlags::empty());
        let report = world.whyfull().args(&["--hidden", "/srv"]).report();
        assert!(row(only(&report), "outside_mount") > 0 && row(only(&report), "hidden_by_mount") > 0);
        for path in &paths {
            let time = fs::symlink_metadata(path).unwrap().atime();
            assert_eq!(time, 1_000_000_000, "{}", path.display());
        }
    }
}
