// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command `deleted`: the holders alone, on disk and in memory, and whether they grow.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::MIB;
use crate::support::filesystem::Filesystem;
use crate::support::holder::Holder;
use crate::support::report::{holder_of, list, number, only, report, skips};
use crate::support::whyfull::{Whyfull, whyfull};

fn deleted(paths: &[&Path]) -> Whyfull {
    paths.iter().fold(whyfull().arg("deleted"), Whyfull::arg)
}

fn json(run: Whyfull) -> Value {
    let run = run.arg("--json").run();
    assert!(matches!(run.code(), Some(0 | 1)), "{run:?}");
    serde_json::from_str(run.text()).unwrap()
}

#[test]
fn the_same_holders_as_in_the_whole_report() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let holders = ["fd", "many-fds", "map", "thread-table", "cwd", "sparse"]
        .map(|situation| Holder::start(situation, &fs.path().join(situation)));
    let (alone, whole) = (json(deleted(&[fs.path()])), report(fs.path()));
    for holder in &holders {
        let mut expected = holder_of(only(&whole), holder.inode()).clone();
        assert!(expected["grown_bytes"].take().is_null());
        assert_eq!(holder_of(&alone, holder.inode()), &expected);
    }
    assert_eq!(list(&alone["deleted"]).len(), holders.len());
    let keys = ["schema_version", "tool", "host", "started", "finished", "complete", "deleted", "skipped"];
    assert!(keys.iter().all(|key| alone.get(key).is_some()), "{alone:#}");
}

#[test]
fn on_disk_and_in_memory() {
    require_root!();
    let (disk, memory) = (Filesystem::ext4(64 * MIB), Filesystem::tmpfs(64 * MIB));
    let on_disk = Holder::start("fd", &disk.path().join("file"));
    let in_memory = Holder::start("fd", &memory.path().join("file"));
    let report = json(deleted(&[disk.path(), memory.path()]));
    for (number_of, holder, memory) in [(0, &on_disk, false), (1, &in_memory, true)] {
        let held = &report["filesystems"][number_of];
        assert_eq!(held["in_memory"], memory, "{report:#}");
        assert_eq!((&held["bytes"], &held["inodes"]), (&holder.bytes().into(), &1.into()), "{report:#}");
    }
    let text = deleted(&[disk.path(), memory.path()]).run();
    assert!(
        text.text().starts_with("2 deleted files are still held: 1.0 MiB on disk and 1.0 MiB in memory.")
    );
    let text = deleted(&[memory.path()]).run();
    assert!(text.text().contains("1.0 MiB in memory, none on disk"), "{text:?}");
    drop((on_disk, in_memory));
    let text = deleted(&[disk.path()]).run();
    assert!(text.text().starts_with("No deleted file is held on this filesystem."), "{text:?}");
}

#[test]
fn every_local_filesystem_unless_told_otherwise() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let holder = Holder::start("fd", &fs.path().join("file"));
    let report = json(deleted(&[]));
    assert_eq!(holder_of(&report, holder.inode())["bytes"], holder.bytes());
    let paths: Vec<&str> =
        list(&report["filesystems"]).iter().map(|on| on["mountpoint"].as_str().unwrap()).collect();
    assert!(paths.contains(&fs.path().to_str().unwrap()), "{report:#}");
    assert!(!paths.contains(&"/proc"), "{report:#}");
    // A path of that name is a path.
    let named = fs.path().join("deleted");
    fs::create_dir(&named).unwrap();
    let whole = whyfull().arg("./deleted").command().current_dir(fs.path()).output().unwrap();
    let whole = String::from_utf8(whole.stdout).unwrap();
    assert!(whole.starts_with(fs.path().to_str().unwrap()), "{whole}");
}

#[test]
fn what_grows() {
    require_root!();
    let fs = Filesystem::ext4(128 * MIB);
    let growing = Holder::start("grow", &fs.path().join("log"));
    let still = Holder::start("fd", &fs.path().join("file"));
    let report = json(deleted(&[fs.path()]).args(&["--interval", "300ms"]));
    assert!(number(&report["interval_ms"]) >= 300, "{report:#}");
    assert!(number(&holder_of(&report, growing.inode())["grown_bytes"]) > 0, "{report:#}");
    assert_eq!(holder_of(&report, still.inode())["grown_bytes"], 0);
    let text = deleted(&[fs.path()]).args(&["--interval", "300ms"]).run();
    assert!(text.text().contains("GROWS") && text.text().contains("/s"), "{text:?}");
}

#[test]
fn sums() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    // Two processes hold the one inode; a third process holds another.
    let shared = Holder::start("fork-shared", &fs.path().join("shared"));
    let alone = Holder::start("fd", &fs.path().join("alone"));
    let report = json(deleted(&[fs.path()]).args(&["--by", "process"]));
    let sum = |pid: u64| list(&report["sums"]).iter().find(|sum| sum["pid"] == pid).unwrap();
    for pid in shared.children().into_iter().chain([shared.pid()]) {
        assert_eq!(sum(pid)["bytes"], shared.bytes(), "{report:#}");
    }
    assert_eq!((&sum(alone.pid())["bytes"], &sum(alone.pid())["inodes"]), (&alone.bytes().into(), &1.into()));
    let report = json(deleted(&[fs.path()]).args(&["--by=unit"]));
    let total: i128 = list(&report["sums"]).iter().map(|sum| number(&sum["bytes"])).sum();
    assert_eq!(total, i128::from(shared.bytes() + alone.bytes()), "one unit holds each: {report:#}");
    let text = deleted(&[fs.path()]).args(&["--by=process"]).run();
    assert!(text.text().contains(&alone.pid().to_string()), "{text:?}");
}

#[test]
fn as_nobody() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    let open = fs.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let own = Holder::start_as_nobody("fd", &open.join("own"));
    let foreign = Holder::start("fd", &open.join("foreign"));
    let report = json(deleted(&[fs.path()]).by_nobody());
    let inodes: Vec<_> =
        list(&report["deleted"]).iter().map(|held| held["inode"].as_u64().unwrap()).collect();
    assert!(inodes.contains(&own.inode()) && !inodes.contains(&foreign.inode()), "{report:#}");
    assert_eq!(report["complete"], false);
    assert!(!skips(&report, "process").is_empty(), "{report:#}");
    let text = deleted(&[fs.path()]).by_nobody().run();
    assert!(text.text().contains("sudo whyfull deleted"), "{text:?}");
}
