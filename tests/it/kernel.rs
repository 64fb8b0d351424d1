// SPDX-License-Identifier: MIT OR Apache-2.0

//! Deleted files that the kernel itself holds, with no process behind it.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::support::filesystem::{Filesystem, bind, mount_tmpfs};
use crate::support::fuse::Fuse;
use crate::support::held::{Held, mount_erofs};
use crate::support::holder::Holder;
use crate::support::kernel::{Namespace, Probe, file, interpreters};
use crate::support::loop_device::LoopDevice;
use crate::support::report::{holder_of, list, number, only, report, row, skips};
use crate::support::whyfull::whyfull;
use crate::support::{KIB, MIB, tool};

fn kernel(via: &str, name: impl AsRef<Path>) -> Value {
    json!({"type": "kernel", "via": via, "name": name.as_ref().to_str().unwrap()})
}

/// What is said of an inode of which `held` bytes are held by these, and nothing else is held.
fn assert_only(report: &Value, inode: u64, held: u64, held_by: &[Value]) {
    let entry = holder_of(only(report), inode);
    assert_eq!(entry["bytes"], held, "{entry:#}");
    assert_eq!(list(&entry["held_by"]), held_by, "{entry:#}");
    assert_eq!(list(&only(report)["deleted"]).len(), 1, "{:#}", only(report)["deleted"]);
    assert_eq!(row(only(report), "unlinked_kernel"), i128::from(held));
    assert_eq!(row(only(report), "unlinked_open") + row(only(report), "unlinked_unattributed"), 0);
}

fn nothing_held(fs: &Filesystem) {
    let report = report(fs.path());
    assert_eq!(list(&only(&report)["deleted"]).len(), 0, "{report:#}");
}

#[test]
fn loop_devices() {
    require_root!();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::xfs(), Filesystem::btrfs()] {
        let path = fs.path().join("image");
        let inode = file(&path, MIB);
        let device = LoopDevice::on(&path);
        fs::remove_file(&path).unwrap();
        let report = report(fs.path());
        let entry = holder_of(only(&report), inode);
        assert_eq!(list(&entry["held_by"]), [kernel("loop", device.node())], "{entry:#}");
        assert_eq!((&entry["bytes"], &entry["path"]), (&json!(MIB), &json!(path)), "{entry:#}");
        assert_eq!(row(only(&report), "unlinked_kernel"), i128::from(MIB));
        drop(device);
        nothing_held(&fs);
    }
}

#[test]
fn a_mounted_image() {
    require_root!();
    let fs = Filesystem::ext4(128 * MIB);
    let (image, at) = (fs.path().join("image"), fs.beside("inside"));
    File::create(&image).unwrap().set_len(16 * MIB).unwrap();
    tool("mkfs.ext4", &["-q".as_ref(), image.as_ref()]);
    let device = LoopDevice::on(&image);
    mount(Some(device.node()), &at, Some("ext4"), MsFlags::MS_RDONLY, None::<&str>).unwrap();
    File::open(&image).unwrap().sync_all().unwrap();
    let held = fs::metadata(&image).unwrap();
    fs::remove_file(&image).unwrap();
    assert_only(&report(fs.path()), held.ino(), held.blocks() * 512, &[kernel("loop", device.node())]);
    let text = whyfull().arg("deleted").arg(fs.path()).run();
    let node = device.node().to_str().unwrap();
    assert!(text.text().contains(&format!("inode:{}  {node}  ", held.ino())), "{text:?}");
    let text = whyfull().arg(fs.path()).run();
    assert!(text.text().contains("deleted, kernel-held"), "{text:?}");
    for (by, shown) in [("process", node), ("unit", "(kernel: loop)")] {
        let text = whyfull().arg("deleted").arg(fs.path()).args(&["--by", by]).run();
        assert!(text.text().contains(shown), "{text:?}");
    }
}

/// A living image that is called as sysfs calls deleted ones, and one with a name left.
#[test]
fn images_with_a_name() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let [live, image, left] = ["live (deleted)", "image", "left"].map(|name| fs.path().join(name));
    file(&live, MIB);
    file(&image, MIB);
    let _devices = [LoopDevice::on(&live), LoopDevice::on(&image)];
    fs::hard_link(&image, left).unwrap();
    fs::remove_file(&image).unwrap();
    // Something else is held, so that the kernel is asked at all.
    let other = Holder::start("fd", &fs.path().join("other"));
    let report = report(fs.path());
    assert_eq!(list(&only(&report)["deleted"]).len(), 1, "{report:#}");
    assert_eq!(row(only(&report), "unlinked_open"), i128::from(other.bytes()));
}

#[test]
fn a_process_and_the_kernel() {
    require_root!();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::tmpfs(64 * MIB)] {
        let holder = Holder::start("fd", &fs.path().join("image"));
        let device = LoopDevice::on(Path::new(&format!("/proc/{}/fd/{}", holder.pid(), holder.fd())));
        let report = report(fs.path());
        let entry = holder_of(only(&report), holder.inode());
        let [process, by_kernel] = list(&entry["held_by"]) else { panic!("{entry:#}") };
        assert_eq!((&process["pid"], by_kernel), (&json!(holder.pid()), &kernel("loop", device.node())));
        assert_eq!(row(only(&report), "unlinked_open"), i128::from(holder.bytes()));
        assert_eq!(row(only(&report), "unlinked_kernel"), 0);
        assert_eq!(list(&only(&report)["deleted"]).len(), 1, "{report:#}");
    }
}

/// tmpfs keeps no list, and nothing leads to an inode of which only the number is known.
#[test]
fn an_image_that_cannot_be_looked_at() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    let (image, live) = (fs.path().join("image"), fs.path().join("live"));
    file(&image, MIB);
    file(&live, MIB);
    let (device, _live) = (LoopDevice::on(&image), LoopDevice::on(&live));
    fs::remove_file(&image).unwrap();
    let report = report(fs.path());
    assert_eq!(list(&only(&report)["deleted"]).len(), 0, "{report:#}");
    let skipped = skips(only(&report), "loop_device");
    assert_eq!(skipped.len(), 1, "{report:#}");
    assert_eq!(skipped[0]["path"], device.node().to_str().unwrap());
    assert!(number(&only(&report)["unexplained_bound_bytes"]) >= i128::from(MIB), "{report:#}");
}

#[test]
fn bind_mounts() {
    require_root!();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::xfs(), Filesystem::tmpfs(MIB)] {
        let (path, directory) = (fs.path().join("a file"), fs.path().join("directory"));
        let inode = file(&path, 64 * KIB);
        fs::create_dir(&directory).unwrap();
        let kept = fs::metadata(&directory).unwrap().ino();
        let [at, below] = ["a point", "directory"].map(|name| fs.beside(name));
        let at = at.join("x");
        File::create(&at).unwrap();
        bind(&path, &at);
        bind(&directory, &below);
        fs::remove_file(&path).unwrap();
        fs::remove_dir(&directory).unwrap();
        let report = report(fs.path());
        let entry = holder_of(only(&report), inode);
        assert_eq!((&entry["bytes"], &entry["path"]), (&json!(64 * KIB), &json!(path)), "{entry:#}");
        assert_eq!(list(&entry["held_by"]), [kernel("mount", at)], "{entry:#}");
        let entry = holder_of(only(&report), kept);
        assert_eq!((&entry["kind"], &entry["path"]), (&json!("directory"), &json!(directory)), "{entry:#}");
        assert_eq!(list(&entry["held_by"]), [kernel("mount", below)], "{entry:#}");
        assert_eq!(list(&only(&report)["deleted"]).len(), 2, "{report:#}");
    }
}

/// A mounted file with a name left, and one to which no way leads any more: what is seen there is not it.
#[test]
fn mounts_that_mislead() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let [first, covered] = ["first", "covered"].map(|name| fs.path().join(name));
    let points = fs.beside("points");
    let (at_first, at_covered) = (fs.beside("elsewhere").join("x"), points.join("x"));
    for path in [&first, &covered, &at_first, &at_covered] {
        file(path, 64 * KIB);
    }
    bind(&first, &at_first);
    fs::hard_link(&first, fs.path().join("left")).unwrap();
    fs::remove_file(&first).unwrap();
    bind(&covered, &at_covered);
    let inode = fs::metadata(&covered).unwrap().ino();
    fs::remove_file(&covered).unwrap();
    mount_tmpfs(&points, MIB, MsFlags::empty());
    file(&at_covered, 4 * KIB);
    assert_only(&report(fs.path()), inode, 64 * KIB, &[kernel("mount", &at_covered)]);
    // Two that had the same name: then nobody knows which of them it is.
    let again = file(&covered, 64 * KIB);
    let device = LoopDevice::on(&covered);
    fs::remove_file(&covered).unwrap();
    let report = report(fs.path());
    let held_by = |inode| list(&holder_of(only(&report), inode)["held_by"]);
    assert_eq!(held_by(again), [kernel("loop", device.node())]);
    assert!(held_by(inode).is_empty(), "{report:#}");
    assert_eq!(row(only(&report), "unlinked_unattributed"), i128::from(64 * KIB));
}

#[test]
fn in_the_namespace_of_a_process() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (path, at) = (fs.path().join("file"), fs.beside("at"));
    let inode = file(&path, 64 * KIB);
    let point = at.join("x");
    File::create(&point).unwrap();
    let namespace = Namespace::new(&["--mount"], r#"mount --bind "$1" "$2""#, &[&path, &point]);
    fs::remove_file(&path).unwrap();
    let way = format!("{} (seen by process {})", point.display(), namespace.pid());
    let held_by = [kernel("mount", &way)];
    assert_only(&report(fs.path()), inode, 64 * KIB, &held_by);
    // With fewer rights, the namespaces of processes are read.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
    command.arg(env!("CARGO_BIN_EXE_whyfull")).arg("--json").arg(fs.path());
    let run = command.output().unwrap();
    assert_only(&serde_json::from_slice(&run.stdout).unwrap(), inode, 64 * KIB, &held_by);
    drop(namespace);
    nothing_held(&fs);
}

/// Nothing keeps it but a descriptor of somebody who is not in it.
#[test]
fn in_a_namespace_without_a_process() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (path, at) = (fs.path().join("file"), fs.beside("at"));
    let inode = file(&path, 64 * KIB);
    let point = at.join("x");
    File::create(&point).unwrap();
    let namespace = Namespace::new(&["--mount"], r#"mount --bind "$1" "$2""#, &[&path, &point]);
    let pinned = File::open(format!("/proc/{}/ns/mnt", namespace.pid())).unwrap();
    drop(namespace);
    fs::remove_file(&path).unwrap();
    let report = report(fs.path());
    let name = holder_of(only(&report), inode)["held_by"][0]["name"].as_str().unwrap();
    // That no process is in it can be said only where all processes may be looked at.
    let way = format!("{} (mnt:[{}]", point.display(), pinned.metadata().unwrap().ino());
    let rest = name.strip_prefix(&way);
    assert!(rest == Some(", no process)") || rest == Some(")"), "{name}");
    assert_only(&report, inode, 64 * KIB, &[kernel("mount", name)]);
}

#[test]
fn interpreters_that_are_kept_open() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let [kept, found] = ["kept", "found"].map(|name| fs.path().join(name));
    let inode = file(&kept, 64 * KIB);
    file(&found, 64 * KIB);
    fs::set_permissions(&kept, PermissionsExt::from_mode(0o755)).unwrap();
    let _namespace = interpreters(&kept, &found, &fs.beside("binfmt_misc"));
    fs::remove_file(&found).unwrap();
    nothing_held(&fs);
    fs::remove_file(&kept).unwrap();
    assert_only(&report(fs.path()), inode, 64 * KIB, &[kernel("binfmt_misc", "why-kept")]);
    // A name that leads somewhere again may be what is registered.
    file(&kept, 4 * KIB);
    let report = report(fs.path());
    assert_eq!(list(&holder_of(only(&report), inode)["held_by"]).len(), 0, "{report:#}");
    assert_eq!(row(only(&report), "unlinked_unattributed"), i128::from(64 * KIB));
}

#[test]
fn files_with_probes() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (path, tracefs) = (fs.path().join("program"), fs.beside("tracefs"));
    let inode = file(&path, 64 * KIB);
    mount(Some("tracefs"), &tracefs, Some("tracefs"), MsFlags::empty(), None::<&str>).unwrap();
    let probe = Probe::new(&tracefs, &path);
    fs::remove_file(&path).unwrap();
    assert_only(&report(fs.path()), inode, 64 * KIB, &[kernel("uprobe", &probe.name)]);
    drop(probe);
    nothing_held(&fs);
}

/// No kernel since Linux 5.15 lets a swap file be deleted: the list is made up, and so is who holds it.
#[test]
fn swap_files() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let held = Held::by_detached_tree(&fs);
    let path = fs.path().join("detached");
    let swaps = fs.beside("proc").join("swaps");
    File::create(&swaps).unwrap();
    mount(Some(&swaps), "/proc/swaps", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    let show = |kib: u64| {
        let line = format!("{}\\040(deleted)    file\t\t{kib}\t\t0\t\t-2\n", path.display());
        fs::write(&swaps, format!("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n{line}")).unwrap();
    };
    show(60);
    assert_only(&report(fs.path()), held.inode, held.bytes, &[kernel("swap", &path)]);
    assert_eq!(list(&only(&report(fs.path()))["remedies"]).len(), 0);
    let what = format!("inode:{}", held.inode);
    let release = whyfull().args(&["release", &what, "--yes", "--filesystem"]).arg(fs.path()).run();
    assert_eq!(release.code(), Some(2), "{release:?}");
    assert!(release.errors().contains(&format!("(swap {})", path.display())), "{release:?}");
    // Another file that had that name.
    show(68);
    let other = report(fs.path());
    assert_eq!(list(&holder_of(only(&other), held.inode)["held_by"]).len(), 0, "{other:#}");
}

/// Mounted without any loop device, Linux 6.12.
#[test]
fn images_mounted_as_files() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (image, at) = mount_erofs(&fs);
    let held = fs::metadata(&image).unwrap();
    nothing_held(&fs);
    fs::remove_file(&image).unwrap();
    assert_only(&report(fs.path()), held.ino(), held.blocks() * 512, &[kernel("mount", at)]);
}

#[test]
fn a_watch_holds_nothing() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let path = fs.path().join("file");
    file(&path, 64 * KIB);
    let watcher = nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::IN_CLOEXEC).unwrap();
    watcher.add_watch(&path, nix::sys::inotify::AddWatchFlags::IN_ALL_EVENTS).unwrap();
    fs::remove_file(&path).unwrap();
    nothing_held(&fs);
}

/// Whoever may not look at others' processes and namespaces still sees what is mounted around him.
#[test]
fn as_nobody() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let [own, foreign] = ["own", "foreign"].map(|name| fs.path().join(name));
    let (inode, at) = (file(&own, 64 * KIB), fs.beside("at"));
    file(&foreign, 64 * KIB);
    let points = ["1", "2"].map(|name| at.join(name));
    for point in &points {
        File::create(point).unwrap();
    }
    bind(&own, &points[0]);
    let _namespace = Namespace::new(&["--mount"], r#"mount --bind "$1" "$2""#, &[&foreign, &points[1]]);
    fs::remove_file(&own).unwrap();
    fs::remove_file(&foreign).unwrap();
    let report = whyfull().arg(fs.path()).by_nobody().report();
    assert_only(&report, inode, 64 * KIB, &[kernel("mount", &points[0])]);
    assert_eq!(report["complete"], false);
}

/// Where no list tells what there is, a mount that cannot be reached is said to be missing.
#[test]
fn a_mount_that_cannot_be_reached() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let (path, points) = (fs.path().join("file"), fs.beside("points"));
    let point = points.join("x");
    file(&path, 64 * KIB);
    File::create(&point).unwrap();
    bind(&path, &point);
    fs::remove_file(&path).unwrap();
    mount_tmpfs(&points, MIB, MsFlags::empty());
    let report = report(fs.path());
    assert_eq!(list(&only(&report)["deleted"]).len(), 0, "{report:#}");
    let skipped = skips(only(&report), "mount");
    assert!(skipped.iter().any(|skip| skip["path"] == point.to_str().unwrap()), "{report:#}");
}

/// The way to a mount leads through a filesystem that has stopped answering: then its name has to do.
#[test]
fn a_mount_behind_a_dead_one() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (path, stalled) = (fs.path().join("directory"), fs.beside("stalled"));
    let mut fuse = Fuse::endless(&stalled);
    let mut inside = fs::read_dir(&stalled).unwrap().map(|entry| entry.unwrap().path());
    let inside = inside.find(|path| path.is_dir()).unwrap();
    fs::create_dir(&path).unwrap();
    bind(&path, &inside);
    let held = File::open(&path).unwrap();
    fs::remove_dir(&path).unwrap();
    let (inode, bytes) = (held.metadata().unwrap().ino(), held.metadata().unwrap().blocks() * 512);
    drop(held);
    fuse.stall();
    let run = whyfull().arg(fs.path()).args(&["--timeout", "300ms"]).within(Duration::from_secs(20));
    assert_only(&run.report(), inode, bytes, &[kernel("mount", &inside)]);
}
