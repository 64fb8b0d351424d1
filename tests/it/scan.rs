// SPDX-License-Identifier: MIT OR Apache-2.0

//! The scan for holders as a whole: what it leaves out, many holders at once, and
//! what an ordinary user gets to see.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::filesystem::Filesystem;
use crate::support::holder::Holder;
use crate::support::report::{holder_of, list, number, only, report, row, skips};
use crate::support::whyfull::whyfull;
use crate::support::{MIB, du};

#[test]
fn traps_are_silent() {
    require_root!();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::tmpfs(64 * MIB)] {
        let _traps: Vec<_> = ["live-deleted-name", "hardlink-left", "memfd", "sysv-shm"]
            .iter()
            .map(|situation| Holder::start(situation, &fs.path().join(situation)))
            .collect();
        let report = report(fs.path());
        let fs_report = only(&report);
        assert_eq!(list(&fs_report["deleted"]).len(), 0, "{fs_report:#}");
        assert_eq!(row(fs_report, "unlinked_open"), 0);
        assert_eq!(row(fs_report, "visible"), i128::from(du(fs.path())));
    }
}

#[test]
fn everything_at_once_each_inode_once() {
    require_root!();
    let fs = Filesystem::ext4(128 * MIB);
    let situations = ["fd", "many-fds", "map", "exe", "cwd", "thread-table", "zombie-leader"];
    let holders: Vec<_> = situations
        .iter()
        .flat_map(|s| [1, 2].map(|n| Holder::start(s, &fs.path().join(format!("{s}{n}")))))
        .collect();
    let report = report(fs.path());
    let fs_report = only(&report);
    for holder in &holders {
        assert_eq!(holder_of(fs_report, holder.inode())["bytes"], holder.bytes());
    }
    let sum: u64 = holders.iter().map(Holder::bytes).sum();
    assert_eq!(row(fs_report, "unlinked_open"), i128::from(sum));
    let bytes = list(&fs_report["deleted"]).iter();
    let bytes: Vec<_> = bytes.map(|h| number(&h["bytes"])).collect();
    assert!(bytes.is_sorted_by(|a, b| a >= b), "the largest first: {bytes:?}");
}

#[test]
fn thousands_of_descriptors() {
    require_root!();
    let fs = Filesystem::tmpfs(16 * MIB);
    let holder = Holder::start_sized("many", &fs.path().join("file"), 5000);
    let report = report(fs.path());
    let fs_report = only(&report);
    let held = i128::from(holder.bytes());
    assert_eq!(row(fs_report, "unlinked_open"), held);
    assert_eq!(list(&fs_report["deleted"]).len(), 1);
}

#[test]
fn a_file_that_grows() {
    require_root!();
    let fs = Filesystem::ext4(128 * MIB);
    let holder = Holder::start("grow", &fs.path().join("log"));
    for _ in 0..5 {
        let report = report(fs.path());
        let fs_report = only(&report);
        let entry = holder_of(fs_report, holder.inode());
        assert!(number(&entry["bytes"]) >= i128::from(holder.bytes()));
    }
}

#[test]
fn nobody_sees_only_what_is_its_own() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    let open = fs.path().join("open");
    fs::create_dir(&open).unwrap();
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&open, all).unwrap();
    let own = Holder::start_as_nobody("fd", &open.join("own"));
    let foreign = Holder::start("fd", &open.join("foreign"));
    let report = whyfull().arg(fs.path()).by_nobody().report();
    let fs_report = only(&report);
    let entry = holder_of(fs_report, own.inode());
    assert_eq!(list(&entry["held_by"])[0]["pid"], own.pid());
    assert_eq!(row(fs_report, "unlinked_open"), i128::from(own.bytes()));
    assert!(row(fs_report, "unexplained") >= i128::from(foreign.bytes()));
    assert_eq!(report["complete"], false);
    let skipped = skips(fs_report, "process");
    assert!(!skipped.is_empty(), "{fs_report:#}");
    for skip in skipped {
        assert_eq!(skip["needs"], "CAP_SYS_PTRACE", "{skip:#}");
    }
}

/// /proc lists only what is in the namespace. Where the filesystem lists all that is deleted, and holders are
/// found for all of it, that does not matter.
#[test]
fn in_a_pid_namespace() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    // Open for both directions, the fifo neither blocks nor ends.
    let script = r#"mkfifo "$2/in" "$2/out" && exec 3<>"$2/in" || exit 9
        "$0" fd "$2/file" <&3 >"$2/out" &
        read -r ready <"$2/out" && "$@""#;
    let seen = |complete: bool| {
        let run = whyfull().arg(fs.path()).arg("--json").after(script).run();
        assert_eq!(run.code(), Some(i32::from(!complete)), "{run:?}");
        let report = run.json();
        assert_eq!(report["complete"], complete);
        let fs_report = only(&report);
        let skipped = list(&fs_report["skipped"]);
        assert_eq!(skipped.len(), skips(fs_report, "unlisted_processes").len());
        assert!(skipped.iter().all(|skip| skip["matters"] == !complete), "{report:#}");
        assert_eq!(row(fs_report, "unlinked_open"), i128::from(MIB));
        for name in ["in", "out"] {
            fs::remove_file(fs.path().join(name)).unwrap();
        }
    };
    seen(true);
    // What somebody outside of it holds has no known holder.
    let _outside = Holder::start("fd", &fs.path().join("outside"));
    seen(false);
}

/// As in a container that sees the machine's /proc: its numbers mean other processes to system calls.
#[test]
fn the_proc_of_an_outer_pid_namespace() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let holders = ["thread-table", "zombie-leader", "many-fds", "queued-stream"]
        .map(|situation| Holder::start(situation, &fs.path().join(situation)));
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", env!("CARGO_BIN_EXE_whyfull"), "--json"]).arg(fs.path());
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for holder in &holders[..3] {
        let held_by = list(&holder_of(only(&report), holder.inode())["held_by"]);
        assert!(held_by.iter().all(|held| held["pid"] == holder.pid()), "{report:#}");
        assert!(!held_by.is_empty(), "{report:#}");
    }
    // The queue of a socket cannot be looked into through such a number.
    assert_eq!(list(&holder_of(only(&report), holders[3].inode())["held_by"]).len(), 0, "{report:#}");
    assert_eq!(skips(only(&report), "unlisted_processes").len(), 0, "{report:#}");
}
