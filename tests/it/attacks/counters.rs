// SPDX-License-Identifier: MIT OR Apache-2.0

//! A filesystem may say anything of itself: no sum wraps or panics, and every part of a report has the same figures.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use serde_json::Value;

use crate::support::MIB;
use crate::support::filesystem::Filesystem;
use crate::support::fuse::{Claims, Fuse};
use crate::support::report::{list, number, only, row};
use crate::support::whyfull::{Run, whyfull};

/// What no filesystem holds.
const MOST: i128 = 1_000_000_000_000_000_000;

/// Every combination that has ever been wrong somewhere.
fn absurd() -> Vec<Claims> {
    let counters = [
        [u64::MAX, 0, 0, u64::MAX, 0],
        [u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX],
        [0, u64::MAX, u64::MAX, 0, u64::MAX],
        [1 << 20, u64::MAX, u64::MAX, 7, u64::MAX],
        [1 << 20, 1 << 19, u64::MAX, 7, 0],
        [1 << 63, 1, 1 << 63, 1 << 63, 1 << 62],
        // As what has become negative: -1 and -4096 blocks.
        [1 << 20, u64::MAX - 4095, u64::MAX, 0, 0],
    ];
    let files = [(4096, 8), (u64::MAX >> 1, u64::MAX), (0, u64::MAX / 512), (1, 1 << 62)];
    let units = [1, 4096, u32::MAX];
    let mut all = Vec::new();
    for counters in counters {
        for (size, blocks) in files {
            all.extend(units.map(|unit| Claims { deepest: 2, counters, unit, size, blocks }));
        }
    }
    all
}

fn ends_well(run: &Run) {
    assert!(matches!(run.code(), Some(0 | 1)) && run.errors().is_empty(), "{run:?}");
}

#[test]
fn every_figure_is_the_same_everywhere() {
    require_root!();
    for claims in absurd() {
        let fs = Filesystem::tmpfs(MIB);
        let at = fs.beside("absurd");
        let _server = Fuse::claiming(&at, claims);
        // The rows are added up there.
        let report = whyfull().arg(&at).report();
        let told = only(&report);
        let capacity = &told["capacity"];
        for figure in ["size_bytes", "used_bytes", "free_bytes", "available_bytes", "reserved_bytes"] {
            assert!((0..=MOST).contains(&number(&capacity[figure])), "{figure}: {told:#}");
        }
        let (used, visible) = (number(&capacity["used_bytes"]), number(&told["visible_bytes"]));
        assert_eq!(row(told, "visible"), visible, "{told:#}");
        assert_eq!(number(&told["gap_bytes"]), used - visible, "{told:#}");
        assert!(list(&told["directories"]).iter().all(|directory| number(&directory["bytes"]) <= visible));
        let is_absurd = number(&capacity["free_bytes"]).max(number(&capacity["available_bytes"]))
            > number(&capacity["size_bytes"])
            || number(&capacity["size_bytes"]) == MOST;
        let is_told = list(&told["findings"]).iter().any(|found| found["code"] == "counters_wrong");
        assert_eq!(is_told, is_absurd, "{told:#}");
        for how in [[].as_slice(), &["--bytes"], &["--si", "--dirs", "3", "--verbose"]] {
            let run = whyfull().args(how).arg(&at).run();
            ends_well(&run);
            assert!(!run.text().contains("18446744073709551615"), "{run:?}");
        }
    }
}

/// Sums of blocks and sizes in what acts on deleted files, and lists them.
#[test]
fn a_deleted_file_that_claims_to_be_as_large_as_can_be() {
    require_root!();
    for (size, blocks) in [(u64::MAX >> 1, u64::MAX), (4096, u64::MAX / 512 + 1), (u64::MAX >> 1, 0)] {
        let fs = Filesystem::tmpfs(MIB);
        let (at, out) = (fs.beside("absurd"), fs.beside("out"));
        let server = Fuse::claiming(&at, Claims { size, blocks, ..Claims::default() });
        let paths = ["f0", "f1"].map(|name| at.join(name));
        let held = paths.each_ref().map(|path| File::open(path).unwrap());
        for path in &paths {
            fs::remove_file(path).unwrap();
        }
        for by in ["inode", "process", "unit"] {
            let run = whyfull().args(&["deleted", "--json", "--by", by]).arg(&at).run();
            ends_well(&run);
            let report: Value = serde_json::from_slice(&run.stdout).unwrap();
            let bytes = number(&report["filesystems"][0]["bytes"]);
            let each: Vec<i128> =
                list(&report["deleted"]).iter().map(|held| number(&held["bytes"])).collect();
            assert_eq!(bytes, each.iter().sum::<i128>().min(MOST), "{report:#}");
            assert!(each.iter().all(|bytes| *bytes <= MOST), "{report:#}");
        }
        ends_well(&whyfull().args(&["deleted", "--bytes"]).arg(&at).run());
        let what = format!("{}:{}", std::process::id(), held[0].as_raw_fd());
        ends_well(&whyfull().args(&["release", &what, "--dry-run"]).run());
        // It cannot be written, or there is no room for it: told in one line.
        let no_hole = whyfull().args(&["release", &what, "--yes", "--timeout", "300ms"]).run();
        no_hole.assert_refused();
        // The server answers no read; what is said to be a hole would have to be read.
        if size > 4096 && blocks > 0 {
            let no_room = whyfull().args(&["recover", &what, "--timeout", "300ms"]).arg(&out).run();
            no_room.assert_refused();
        }
        drop(server);
        drop(held);
    }
}
