// SPDX-License-Identifier: MIT OR Apache-2.0

//! The table of docs/coverage.md: every way to hold a file that has no name, and
//! who sees it. `WHYFULL_UPDATE=1 cargo test --test it coverage` fills it anew, with
//! whatever lsof and lsfd are installed; otherwise whyfull's own column is checked.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::MIB;
use crate::support::filesystem::Filesystem;
use crate::support::held::Held;
use crate::support::report::{list, number};
use crate::support::whyfull::whyfull;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/coverage.md");

/// How a file is held.
enum Way {
    /// As in a situation of `tests/holder`.
    Process(&'static str),
    Other(fn(&Filesystem) -> Held),
}

/// A way to hold a file, in words.
type Case = (&'static str, Way);

const HELD: &[Case] = &[
    ("open descriptor", Way::Process("fd")),
    ("several descriptors of one file", Way::Process("many-fds")),
    ("descriptor shared by two processes", Way::Process("fork-shared")),
    ("descriptor opened with `O_PATH`", Way::Process("o-path")),
    ("file that never had a name (`O_TMPFILE`)", Way::Process("tmpfile")),
    ("file that another was renamed over", Way::Process("renamed-over")),
    ("sparse file", Way::Process("sparse")),
    ("space allocated beyond the end of a file", Way::Process("prealloc")),
    ("name with line breaks and terminal sequences", Way::Process("hostile-name")),
    ("descriptor of a thread with its own table", Way::Process("thread-table")),
    ("descriptor of a process whose first thread has ended", Way::Process("zombie-leader")),
    ("mapping, its descriptor closed", Way::Process("map")),
    ("mapping of a process whose first thread has ended", Way::Process("zombie-leader-map")),
    ("running program", Way::Process("exe")),
    ("working directory", Way::Process("cwd")),
    ("working directory of a thread", Way::Process("thread-cwd")),
    ("root directory", Way::Process("root")),
    ("descriptor on its way through a stream socket", Way::Process("queued-stream")),
    ("descriptor on its way through a datagram socket", Way::Process("queued-datagram")),
    ("descriptor in the second message of a socket's queue", Way::Process("queued-second")),
    ("descriptor in a connection that was not accepted yet", Way::Process("queued-unaccepted")),
    ("file registered with an io_uring", Way::Process("registered")),
    ("file open through an overlay", Way::Other(Held::through_overlay)),
    ("image behind a loop device", Way::Other(Held::by_loop_device)),
    ("image of a mounted filesystem", Way::Other(Held::by_mounted_image)),
    ("image mounted without a loop device (erofs)", Way::Other(Held::by_mounted_erofs)),
    ("bind mount of a file", Way::Other(Held::by_bind_mount)),
    ("the same in another mount namespace", Way::Other(Held::by_mount_of_another_namespace)),
    ("the same in a namespace that no process is in", Way::Other(Held::by_namespace_without_process)),
    ("the same in a tree of mounts that is in no namespace", Way::Other(Held::by_detached_tree)),
    ("interpreter of a `binfmt_misc` entry", Way::Other(Held::by_interpreter)),
    ("program with a uprobe", Way::Other(Held::by_probe)),
];

const NOT_HELD: &[Case] = &[
    ("living file whose name ends in \" (deleted)\"", Way::Process("live-deleted-name")),
    ("file that has another name left", Way::Process("hardlink-left")),
    ("memfd", Way::Process("memfd")),
    ("System V shared memory", Way::Process("sysv-shm")),
    ("mark of inotify", Way::Other(Held::by_watch)),
];

/// How a tool is asked, and where it prints device and inode.
struct Peer {
    name: &'static str,
    command: &'static [&'static str],
    inodes: fn(&str) -> BTreeSet<(String, u64)>,
}

const PEERS: [Peer; 3] = [
    Peer { name: "lsof +L1", command: &["lsof", "-nP", "+L1", "-FDi"], inodes: of_lsof },
    Peer { name: "lsof -K +L1", command: &["lsof", "-nP", "-K", "+L1", "-FDi"], inodes: of_lsof },
    Peer {
        name: "lsfd -Q DELETED",
        command: &["lsfd", "-Q", "DELETED", "--noheadings", "--raw", "-o", "MAJ:MIN,INODE"],
        inodes: of_lsfd,
    },
];

/// `D0x701` and then `i12`, a line each: lsof(8), "OUTPUT FOR OTHER PROGRAMS".
fn of_lsof(text: &str) -> BTreeSet<(String, u64)> {
    let mut device = String::new();
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if let Some(number) = line.strip_prefix("D0x").and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
            device = format!("{}:{}", nix::libc::major(number), nix::libc::minor(number));
        } else if let Some(inode) = line.strip_prefix('i').and_then(|inode| inode.parse().ok()) {
            found.insert((device.clone(), inode));
        }
    }
    found
}

fn of_lsfd(text: &str) -> BTreeSet<(String, u64)> {
    let row = |line: &str| {
        let (device, inode) = line.split_once(' ')?;
        Some((device.to_owned(), inode.parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}

/// A filesystem on which one file is held.
struct Made {
    // In this order: what holds goes before what it is held in.
    held: Held,
    fs: Filesystem,
}

impl Made {
    fn new(way: &Way) -> Self {
        let fs = Filesystem::ext4(64 * MIB);
        let held = match way {
            Way::Process(situation) => Held::by_process(situation, &fs),
            Way::Other(make) => make(&fs),
        };
        Self { held, fs }
    }

    fn is_seen_by(&self, peer: &Peer) -> bool {
        let output = Command::new(peer.command[0]).args(&peer.command[1..]).output().unwrap();
        let seen = (peer.inodes)(&String::from_utf8_lossy(&output.stdout));
        seen.contains(&(self.held.device.clone(), self.held.inode))
    }

    /// What whyfull says of it: the bytes, and by whom it is held.
    fn as_whyfull_sees_it(&self) -> &'static str {
        let run = whyfull().arg("deleted").arg("--json").arg(self.fs.path()).run();
        let report: Value = serde_json::from_str(run.text()).unwrap();
        let found = list(&report["deleted"]).iter().find(|entry| entry["inode"] == self.held.inode);
        match found {
            None => "no",
            Some(entry) if number(&entry["bytes"]) != i128::from(self.held.bytes) => "wrong bytes",
            Some(entry) if list(&entry["held_by"]).is_empty() => "yes, without holder",
            Some(_) => "yes",
        }
    }
}

fn table(cases: &[Case], peers: &[Peer]) -> String {
    let mut table = "| case |".to_owned();
    let names = peers.iter().map(|peer| peer.name).chain(["whyfull deleted"]);
    names.for_each(|name| write!(table, " {name} |").unwrap());
    table += "\n|---|";
    table += &"---|".repeat(peers.len() + 1);
    for (words, way) in cases {
        let made = Made::new(way);
        write!(table, "\n| {words} |").unwrap();
        for peer in peers {
            write!(table, " {} |", if made.is_seen_by(peer) { "yes" } else { "no" }).unwrap();
        }
        write!(table, " {} |", made.as_whyfull_sees_it()).unwrap();
    }
    table + "\n"
}

/// The first and the last column of all tables in `text`.
fn own_column(text: &str) -> Vec<(String, String)> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        line.starts_with('|').then(|| (cells[0].to_owned(), cells[cells.len() - 1].to_owned()))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn the_table_is_true() {
    require_root!();
    if std::env::var_os("WHYFULL_UPDATE").is_some() {
        let text = fs::read_to_string(TABLE).unwrap();
        // Only the tables are replaced: each stands between two marks.
        let mut parts: Vec<String> = text.split("<!-- table -->\n").map(str::to_owned).collect();
        (parts[1], parts[3]) = (table(HELD, &PEERS), table(NOT_HELD, &PEERS));
        fs::write(TABLE, parts.join("<!-- table -->\n")).unwrap();
    }
    let now = [table(HELD, &[]), table(NOT_HELD, &[])].concat();
    assert_eq!(own_column(&now), own_column(&fs::read_to_string(TABLE).unwrap()));
}
