// SPDX-License-Identifier: MIT OR Apache-2.0

//! Deleted files and who holds them: the right inode, bytes and holder, once.

use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::Stdio;

use base64::Engine;
use serde_json::Value;

use crate::support::filesystem::Filesystem;
use crate::support::holder::Holder;
use crate::support::report::{holder_of, list, number, only, report, row, skips};
use crate::support::whyfull::whyfull;
use crate::support::{KIB, MIB, du};

/// A filesystem in which one holder holds one inode, and what is said about it.
struct Case {
    // In this order: what holds goes before what it is held in.
    holder: Holder,
    fs: Filesystem,
    path: PathBuf,
    report: Value,
}

impl Case {
    fn new(situation: &str) -> Self {
        Self::on(Filesystem::ext4(64 * MIB), situation)
    }

    fn on(fs: Filesystem, situation: &str) -> Self {
        let path = match situation {
            "tmpfile" | "hostile-name" | "hostile-map" => fs.path().to_owned(),
            _ => fs.path().join("some where").join(situation),
        };
        fs::create_dir(fs.path().join("some where")).unwrap();
        let holder = Holder::start(situation, &path);
        let report = report(fs.path());
        let case = Self { holder, fs, path, report };
        let fs_report = only(&case.report);
        assert_eq!(row(fs_report, "visible"), i128::from(du(case.fs.path())));
        case
    }

    fn fs(&self) -> &Value {
        only(&self.report)
    }

    /// The entry, after what holds for every situation was checked.
    fn entry(&self, kind: &str) -> &Value {
        let entry = holder_of(self.fs(), self.holder.inode());
        assert_eq!(entry["bytes"], self.holder.bytes(), "{entry:#}");
        assert_eq!(entry["size_bytes"], self.holder.size(), "{entry:#}");
        assert_eq!(entry["kind"], kind, "{entry:#}");
        assert_eq!(entry["dev"], self.holder.device(), "{entry:#}");
        assert!(entry["written"].is_string(), "{entry:#}");
        let held = i128::from(self.holder.bytes());
        assert_eq!(row(self.fs(), "unlinked_open"), held, "{:#}", self.fs());
        assert_eq!(list(&self.fs()["deleted"]).len(), 1, "{:#}", self.fs());
        for held in list(&entry["held_by"]) {
            assert_eq!(held["type"], "process", "{entry:#}");
            assert!(held["command"].is_string(), "{entry:#}");
            assert!(held["started"].is_string(), "{entry:#}");
            assert_eq!(held["user"], "root", "{entry:#}");
        }
        entry
    }

    /// The entry of a regular file under its own name, held in one way only.
    fn only_held(&self, via: &str) -> &Value {
        let entry = self.entry("file");
        assert_eq!(entry["path"], self.path.to_str().unwrap());
        one(entry, via)
    }

    /// Held by the process as such: no thread needs to be told.
    fn held_by_process(&self, held: &Value) {
        assert_eq!(held["pid"], self.holder.pid(), "{held:#}");
        assert_eq!(held["tid"], Value::Null, "{held:#}");
    }

    fn held_by_thread(&self, held: &Value) {
        assert_eq!(held["pid"], self.holder.pid(), "{held:#}");
        assert_eq!(held["tid"], self.holder.tid(), "{held:#}");
    }
}

fn one<'a>(entry: &'a Value, via: &str) -> &'a Value {
    let all = list(&entry["held_by"]);
    assert_eq!(all.len(), 1, "{entry:#}");
    assert_eq!(all[0]["via"], via, "{entry:#}");
    &all[0]
}

fn flags(held: &Value) -> Vec<&str> {
    held["flags"].as_str().unwrap().split('|').collect()
}

/// The path as bytes, also where it is no UTF-8.
fn exact_path(entry: &Value) -> PathBuf {
    let encoded = entry["path_base64"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded);
    std::ffi::OsString::from_vec(bytes.unwrap()).into()
}

#[test]
fn descriptor() {
    require_root!();
    let case = Case::new("fd");
    let held = case.only_held("fd");
    case.held_by_process(held);
    assert_eq!(held["fd"], case.holder.fd());
    assert_eq!(held["position"], case.holder.size());
    assert!(flags(held).contains(&"O_RDWR"), "{held:#}");
}

#[test]
fn descriptor_on_every_filesystem() {
    require_root!();
    for fs in [Filesystem::tmpfs(64 * MIB), Filesystem::xfs(), Filesystem::btrfs()] {
        for situation in ["fd", "map"] {
            // A fresh name for each run on the same filesystem.
            let holder = Holder::start(situation, &fs.path().join(situation));
            let report = report(fs.path());
            let entry = holder_of(only(&report), holder.inode());
            assert_eq!(entry["bytes"], holder.bytes(), "{entry:#}");
            let expected = fs.path().join(situation);
            assert_eq!(entry["path"], expected.to_str().unwrap());
            one(entry, situation);
            let held = i128::from(holder.bytes());
            assert_eq!(row(only(&report), "unlinked_open"), held);
        }
    }
}

#[test]
fn several_descriptors_of_one_inode() {
    require_root!();
    let case = Case::new("many-fds");
    let entry = case.entry("file");
    let held = list(&entry["held_by"]);
    let mut fds: Vec<_> = held.iter().map(|h| h["fd"].as_u64().unwrap()).collect();
    fds.sort_unstable();
    assert_eq!(fds, case.holder.fds());
    for held in held {
        case.held_by_process(held);
        assert_eq!(held["via"], "fd");
        let second = held["fd"] == case.holder.fds()[1];
        let mode = if second { "O_RDONLY" } else { "O_RDWR" };
        assert!(flags(held).contains(&mode), "{entry:#}");
    }
}

#[test]
fn path_descriptor() {
    require_root!();
    let case = Case::new("o-path");
    let held = case.only_held("fd");
    case.held_by_process(held);
    assert!(flags(held).contains(&"O_PATH"), "{held:#}");
}

#[test]
fn never_named() {
    require_root!();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::tmpfs(64 * MIB)] {
        let case = Case::on(fs, "tmpfile");
        let entry = case.entry("file");
        assert_eq!(entry["path"], Value::Null, "{entry:#}");
        case.held_by_process(one(entry, "fd"));
    }
}

#[test]
fn renamed_over() {
    require_root!();
    let case = Case::new("renamed-over");
    case.held_by_process(case.only_held("fd"));
}

#[test]
fn sparse_counts_what_is_allocated() {
    require_root!();
    let case = Case::new("sparse");
    assert_eq!(case.holder.size(), 10 << 30);
    assert_eq!(case.holder.bytes(), 256 * KIB);
    case.only_held("fd");
}

#[test]
fn preallocated_counts_beyond_the_end() {
    require_root!();
    let case = Case::new("prealloc");
    assert!(case.holder.bytes() > case.holder.size());
    case.only_held("fd");
}

#[test]
fn thread_with_its_own_descriptors() {
    require_root!();
    let case = Case::new("thread-table");
    let held = case.only_held("fd");
    case.held_by_thread(held);
    assert_eq!(held["fd"], case.holder.fd());
}

#[test]
fn leader_is_a_zombie() {
    require_root!();
    let case = Case::new("zombie-leader");
    let held = case.only_held("fd");
    case.held_by_thread(held);
    assert_eq!(held["fd"], case.holder.fd());
}

/// Nothing in /proc leads to the inode itself then: either the filesystem has
/// said how big it is, or the report says that something was not seen.
#[test]
fn leader_is_a_zombie_and_the_file_only_mapped() {
    require_root!();
    let case = Case::new("zombie-leader-map");
    if skips(case.fs(), "mapping").is_empty() {
        case.held_by_thread(case.only_held("map"));
    } else {
        assert_eq!(case.report["complete"], false);
    }
}

#[test]
fn mapping() {
    require_root!();
    let case = Case::new("map");
    let held = case.only_held("map");
    case.held_by_process(held);
    assert_eq!(held["fd"], Value::Null);
}

#[test]
fn running_program() {
    require_root!();
    let case = Case::new("exe");
    let entry = case.entry("file");
    assert_eq!(entry["path"], case.path.to_str().unwrap());
    // A program is mapped by nature: that may be said as well.
    let held = list(&entry["held_by"]);
    let running = held.iter().filter(|held| held["via"] == "exe");
    assert_eq!(running.count(), 1, "{entry:#}");
    for held in held {
        case.held_by_process(held);
    }
}

#[test]
fn directories() {
    require_root!();
    for situation in ["cwd", "root"] {
        let case = Case::new(situation);
        let entry = case.entry("directory");
        assert_eq!(entry["path"], case.path.to_str().unwrap());
        case.held_by_process(one(entry, situation));
    }
}

#[test]
fn thread_with_its_own_directory() {
    require_root!();
    let case = Case::new("thread-cwd");
    case.held_by_thread(one(case.entry("directory"), "cwd"));
}

#[test]
fn two_processes() {
    require_root!();
    let case = Case::new("fork-shared");
    let entry = case.entry("file");
    let held = list(&entry["held_by"]).iter();
    let mut pids: Vec<_> = held.map(|h| h["pid"].as_u64().unwrap()).collect();
    pids.sort_unstable();
    let mut expected = [vec![case.holder.pid()], case.holder.children()].concat();
    expected.sort_unstable();
    assert_eq!(pids, expected, "{entry:#}");
}

#[test]
fn names_of_any_bytes() {
    require_root!();
    for (situation, via) in [("hostile-name", "fd"), ("hostile-map", "map")] {
        let case = Case::new(situation);
        let entry = case.entry("file");
        case.held_by_process(one(entry, via));
        let exact = exact_path(entry);
        let name = exact.file_name().unwrap().as_encoded_bytes();
        let expected = b"a\nb\x1b[31m\x1b]0;title\x07\xe2\x80\xaec\t\xff\\end";
        assert_eq!(name, expected, "{situation}: {entry:#}");
        assert_eq!(exact.parent(), Some(case.fs.path()));
        let lossy = entry["path"].as_str().unwrap();
        assert_eq!(lossy, exact.to_string_lossy());
    }
}

/// A shell that holds a deleted file hands its descriptor down to the command.
#[test]
fn the_commands_own_descriptors_are_not_told() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let holder = Holder::start("fd", &fs.path().join("file"));
    let inherited = File::open(format!("/proc/{}/fd/{}", holder.pid(), holder.fd())).unwrap();
    let mut command = whyfull().arg(fs.path()).arg("--json").command();
    let run = command.stdin(inherited).stdout(Stdio::piped()).spawn().unwrap();
    let own = i128::from(run.id());
    let report: Value = serde_json::from_slice(&run.wait_with_output().unwrap().stdout).unwrap();
    let held_by = list(&holder_of(only(&report), holder.inode())["held_by"]).iter();
    let pids: Vec<i128> = held_by.map(|held| number(&held["pid"])).collect();
    assert!(pids.contains(&i128::from(holder.pid())) && !pids.contains(&own), "{own}: {report:#}");
}
