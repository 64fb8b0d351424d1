// SPDX-License-Identifier: MIT OR Apache-2.0

//! Deleted files that no link of /proc leads to, or under another device's number: in the queues of
//! sockets, registered with an `io_uring`, seen through overlays, in deleted subvolumes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::filesystem::Filesystem;
use crate::support::fuse::Fuse;
use crate::support::holder::Holder;
use crate::support::overlay::Overlay;
use crate::support::report::{holder_of, list, number, only, report, row, skips};
use crate::support::whyfull::whyfull;
use crate::support::{KIB, MIB, tool};

/// The one holder of the one inode that is held.
fn held_once(fs: &Value, inode: u64, bytes: u64) -> &Value {
    assert_eq!(list(&fs["deleted"]).len(), 1, "{:#}", fs["deleted"]);
    let entry = holder_of(fs, inode);
    assert_eq!(entry["bytes"], bytes, "{entry:#}");
    assert_eq!(row(fs, "unlinked_open"), i128::from(bytes), "{fs:#}");
    assert_eq!(row(fs, "unlinked_unattributed"), 0, "{fs:#}");
    assert_eq!(list(&fs["unattributed_reasons"]).len(), 0, "{fs:#}");
    // Another run of the command may have had a copy at that moment, and be gone.
    let of_tests = |held: &&Value| held["command"] == "holder";
    let all: Vec<_> = list(&entry["held_by"]).iter().filter(of_tests).collect();
    assert_eq!(all.len(), 1, "{entry:#}");
    all[0]
}

fn held_by(held: &Value, holder: &Holder, via: &str) {
    let expected = (json!(holder.pid()), json!(null), json!(holder.fd()), json!(via));
    assert_eq!(
        (&held["pid"], &held["tid"], &held["fd"], &held["via"]),
        (&expected.0, &expected.1, &expected.2, &expected.3)
    );
    assert_eq!(held["command"], "holder");
}

#[test]
fn in_the_queue_of_a_socket() {
    require_root!();
    for make in
        [|| Filesystem::ext4(64 * MIB), || Filesystem::tmpfs(64 * MIB), Filesystem::xfs, Filesystem::btrfs]
    {
        for situation in ["queued-stream", "queued-datagram"] {
            let fs = make();
            let path = fs.path().join("sent");
            let holder = Holder::start(situation, &path);
            for _ in 0..2 {
                let report = report(fs.path());
                held_by(held_once(only(&report), holder.inode(), holder.bytes()), &holder, "socket");
                assert_eq!(holder_of(only(&report), holder.inode())["path"], path.to_str().unwrap());
                assert_eq!(holder_of(only(&report), holder.inode())["dev"], holder.device());
            }
            assert!(holder.finish(), "{situation}: received as it was sent");
            assert_eq!(list(&only(&report(fs.path()))["deleted"]).len(), 0);
        }
    }
}

#[test]
fn a_queue_that_cannot_be_looked_into_is_named_as_a_reason() {
    require_root!();
    for situation in ["queued-second", "queued-peek-offset", "queued-unaccepted"] {
        let (disk, memory) = (Filesystem::ext4(64 * MIB), Filesystem::tmpfs(64 * MIB));
        let holder = Holder::start(situation, &disk.path().join("sent"));
        let report = report(disk.path());
        let fs = only(&report);
        assert_eq!(row(fs, "unlinked_unattributed"), i128::from(holder.bytes()), "{situation}: {fs:#}");
        assert_eq!(list(&holder_of(fs, holder.inode())["held_by"]).len(), 0, "{situation}: {fs:#}");
        // Other tests have sockets of that kind, too.
        assert!(number(&reason(fs, "sockets_with_queued_descriptors")["count"]) >= 1, "{fs:#}");
        let text = whyfull().arg(disk.path()).run();
        assert!(text.text().contains("No holder was found for it."), "{text:?}");
        assert!(text.text().replace('\n', " ").contains("with queued descriptors"), "{text:?}");
        // Where there is no list to tell that something is missing, the report is not complete.
        let path = format!("/proc/{}/fd/{}", holder.pid(), holder.fd());
        let report = crate::support::report::report(memory.path());
        let queues = skips(only(&report), "socket_queue");
        assert!(queues.iter().any(|skip| skip["path"] == path.as_str()), "{report:#}");
        assert!(holder.finish(), "{situation}: nothing was disturbed");
    }
}

fn reason<'a>(fs: &'a Value, name: &str) -> &'a Value {
    let found = list(&fs["unattributed_reasons"]).iter().find(|reason| reason["reason"] == name);
    found.unwrap_or_else(|| panic!("{name}: {:#}", fs["unattributed_reasons"]))
}

#[test]
fn a_queued_file_that_has_a_name_is_not_told() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    let holder = Holder::start("queued-live", &fs.path().join("live"));
    let report = report(fs.path());
    assert_eq!(list(&only(&report)["deleted"]).len(), 0, "{report:#}");
    let path = format!("/proc/{}/fd/{}", holder.pid(), holder.fd());
    let queues = skips(only(&report), "socket_queue");
    assert!(!queues.iter().any(|skip| skip["path"] == path.as_str()), "{report:#}");
    assert!(holder.finish());
}

/// Copies of what is queued have to be closed, and a server that does not answer is asked then.
#[test]
fn a_queued_file_of_a_dead_server_stops_nobody() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    let at = fs.beside("dead");
    let fuse = Fuse::endless(&at);
    // Never open in this process: those that it starts would have to close it, too.
    let queued = Holder::start("queued-existing", &at.join("f0"));
    fuse.swallow();
    let holder = Holder::start("queued-stream", &fs.path().join("sent"));
    let run = whyfull().arg(fs.path()).args(&["--timeout", "300ms"]).within(Duration::from_secs(20));
    let report = run.report();
    held_by(held_once(only(&report), holder.inode(), holder.bytes()), &holder, "socket");
    // Before whoever would wait for it.
    drop(fuse);
    drop(queued);
}

#[test]
fn registered_with_an_io_uring() {
    require_root!();
    if fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|value| value.trim() != "0") {
        crate::support::skip("io_uring is disabled");
        return;
    }
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::xfs(), Filesystem::btrfs()] {
        let path = fs.path().join("a file, registered");
        let holder = Holder::start("registered", &path);
        let report = report(fs.path());
        held_by(held_once(only(&report), holder.inode(), holder.bytes()), &holder, "io_uring");
    }
    // Where two had the same path, either may be the one.
    let fs = Filesystem::ext4(64 * MIB);
    let path = fs.path().join("file");
    let holders = [(); 2].map(|()| Holder::start("registered", &path));
    let report = report(fs.path());
    let bytes: u64 = holders.iter().map(Holder::bytes).sum();
    assert_eq!(row(only(&report), "unlinked_unattributed"), i128::from(bytes), "{report:#}");
    assert!(number(&reason(only(&report), "io_uring_registered_files")["count"]) >= 2, "{report:#}");
    // And where there is no list, nothing but a path is known.
    let fs = Filesystem::tmpfs(64 * MIB);
    let holder = Holder::start("registered", &fs.path().join("file"));
    let report = crate::support::report::report(fs.path());
    assert_eq!(report["complete"], false);
    let path = format!("/proc/{}/fd/{}", holder.pid(), holder.fd());
    assert!(skips(only(&report), "io_uring").iter().any(|skip| skip["path"] == path.as_str()), "{report:#}");
}

/// Holds `name`, deletes it, and checks what is said of it.
fn through(overlay: &Overlay, upper: &Filesystem, name: &str) {
    let holder = Holder::start("written", &overlay.at.join(name));
    let real = overlay.upper.join(name).metadata().unwrap();
    fs::remove_file(overlay.at.join(name)).unwrap();
    let dev = (nix::libc::major(real.dev()), nix::libc::minor(real.dev()));
    for path in [upper.path(), &overlay.at] {
        let report = report(path);
        let fs = only(&report);
        held_by(held_once(fs, real.ino(), real.blocks() * 512), &holder, "fd");
        let entry = holder_of(fs, real.ino());
        assert_eq!(entry["path"], overlay.upper.join(name).to_str().unwrap());
        assert_eq!(entry["dev"], format!("{}:{}", dev.0, dev.1), "{entry:#}");
    }
    let run = whyfull().args(&["deleted", "--json"]).run();
    let all: Value = serde_json::from_str(run.text()).unwrap();
    let told = list(&all["deleted"]).iter().filter(|held| held["inode"] == real.ino());
    let told: Vec<_> = told.filter(|held| held["held_by"][0]["pid"] == holder.pid()).collect();
    assert_eq!(told.len(), 1, "{all:#}");
}

#[test]
fn open_through_an_overlay() {
    require_root!();
    for upper in [Filesystem::ext4(64 * MIB), Filesystem::xfs()] {
        let other = Filesystem::ext4(64 * MIB);
        let below = upper.path().join("lower");
        fs::create_dir(&below).unwrap();
        for lower in [&below, other.path()] {
            fs::write(lower.join("copied"), vec![1; 5000]).unwrap();
        }
        let same = Overlay::new(&below, &upper, "same");
        let mixed = Overlay::new(other.path(), &upper, "mixed");
        let nested = Overlay::new(&mixed.at, &upper, "nested");
        for overlay in [&nested, &same, &mixed] {
            for name in ["new", "copied"] {
                through(overlay, &upper, name);
            }
        }
    }
}

/// In a container its mounts have other numbers, and lie elsewhere.
#[test]
fn open_through_an_overlay_of_another_mount_namespace() {
    require_root!();
    let upper = Filesystem::ext4(64 * MIB);
    let lower = upper.path().join("lower");
    fs::create_dir(&lower).unwrap();
    fs::write(lower.join("copied"), vec![1; 5000]).unwrap();
    let overlay = Overlay::new(&lower, &upper, "container");
    let holder = Holder::start_unshared("written", &overlay.at.join("copied"));
    let real = overlay.upper.join("copied").metadata().unwrap();
    fs::remove_file(overlay.at.join("copied")).unwrap();
    let report = report(upper.path());
    held_by(held_once(only(&report), real.ino(), real.blocks() * 512), &holder, "fd");
}

#[test]
fn open_through_an_overlay_in_memory() {
    require_root!();
    let upper = Filesystem::tmpfs(64 * MIB);
    let lower = upper.path().join("lower");
    fs::create_dir(&lower).unwrap();
    let overlay = Overlay::new(&lower, &upper, "memory");
    let _holder = Holder::start("fd", &overlay.at.join("new"));
    let report = report(upper.path());
    assert_eq!(report["complete"], false, "which inode it is cannot be told: {report:#}");
    let expected = overlay.upper.join("new");
    let skips = skips(only(&report), "overlay_file");
    assert_eq!(skips.len(), 1, "{report:#}");
    assert_eq!(skips[0]["path"], expected.to_str().unwrap());
}

fn subvolume(fs: &Filesystem, name: &str, action: &str) {
    let path = fs.path().join(name);
    tool("btrfs", &[OsStr::new("subvolume"), OsStr::new(action), path.as_os_str()]);
}

#[test]
fn in_a_deleted_subvolume() {
    require_root!();
    let fs = Filesystem::btrfs();
    for name in ["one", "two", "three"] {
        subvolume(&fs, name, "create");
    }
    // Their inodes have the same numbers.
    let files = ["one", "two"].map(|name| Holder::start("written", &fs.path().join(name).join("file")));
    let inside = Holder::start("inside", &fs.path().join("three"));
    for name in ["one", "two", "three"] {
        subvolume(&fs, name, "delete");
    }
    let report = report(fs.path());
    let of = only(&report);
    assert_eq!(skips(of, "deleted_subvolume").len(), 3, "{report:#}");
    assert_eq!(list(&of["deleted"]).len(), 3, "{:#}", of["deleted"]);
    for holder in files.iter().chain([&inside]) {
        let by = |held: &&Value| held["held_by"][0]["pid"] == holder.pid();
        let held = list(&of["deleted"]).iter().find(by).unwrap();
        assert_eq!(held["in_deleted_subvolume"], true, "{held:#}");
        assert_eq!((&held["inode"], &held["bytes"]), (&json!(holder.inode()), &json!(holder.bytes())));
    }
    let bytes: u64 = files.iter().map(Holder::bytes).sum();
    assert_eq!(row(of, "unlinked_open"), i128::from(bytes + inside.bytes()));
    let text = whyfull().arg(fs.path()).run();
    assert!(text.text().contains("A deleted subvolume stays on the disk"), "{text:?}");
    assert!(text.text().contains(&format!("{}:cwd", inside.pid())), "{text:?}");
    let text = whyfull().arg("deleted").arg(fs.path()).run();
    assert!(text.text().contains("A deleted subvolume stays on the disk"), "{text:?}");
    assert!(text.text().contains("3 deleted subvolumes"), "{text:?}");
}

#[test]
fn where_no_subvolume_is_deleted_the_list_of_btrfs_is_complete() {
    require_root!();
    let fs = Filesystem::btrfs();
    fs::write(fs.path().join("file"), vec![1; usize::try_from(64 * KIB).unwrap()]).unwrap();
    assert_eq!(only(&report(fs.path()))["processes_read"], 0);
}
