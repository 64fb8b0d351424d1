// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a report says, and what must be true of every report.

use std::path::Path;

use serde_json::Value;

/// What `whyfull --json PATH` prints about one filesystem.
pub(crate) fn report(path: &Path) -> Value {
    super::whyfull::whyfull().arg(path).report()
}

/// The only filesystem of a report.
pub(crate) fn only(report: &Value) -> &Value {
    let all = report["filesystems"].as_array().unwrap();
    assert_eq!(all.len(), 1, "one filesystem was asked for: {report:#}");
    &all[0]
}

pub(crate) fn number(value: &Value) -> i128 {
    let signed = value.as_i64().map(i128::from);
    signed.or_else(|| value.as_u64().map(i128::from)).unwrap_or_else(|| panic!("{value} is no integer"))
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// Bytes of one row of the ledger; a row that is not there has none.
pub(crate) fn row(fs: &Value, cause: &str) -> i128 {
    let rows = list(&fs["ledger"]);
    rows.iter().filter(|row| row["cause"] == cause).map(|row| number(&row["bytes"])).sum()
}

/// The one entry for this inode.
pub(crate) fn holder_of(fs: &Value, inode: u64) -> &Value {
    let all = list(&fs["deleted"]);
    let found: Vec<_> = all.iter().filter(|h| h["inode"] == inode).collect();
    assert_eq!(found.len(), 1, "inode {inode} once: {:#}", fs["deleted"]);
    found[0]
}

pub(crate) fn skips<'a>(fs: &'a Value, kind: &str) -> Vec<&'a Value> {
    let all = list(&fs["skipped"]).iter();
    all.filter(|skip| skip["kind"] == kind).collect()
}

/// Skips beside the processes that even root may not inspect on some machines, and beside messages
/// that other tests' processes send each other at that moment.
pub(crate) fn skips_but_processes(fs: &Value) -> Vec<&Value> {
    let all = list(&fs["skipped"]).iter();
    all.filter(|skip| skip["kind"] != "process" && skip["kind"] != "socket_queue").collect()
}

/// The rules that hold for every report ever printed.
pub(crate) fn check(report: &Value) {
    assert_eq!(report["schema_version"], 1);
    let skipped = list(&report["filesystems"]).iter().flat_map(|fs| list(&fs["skipped"]));
    check_complete(report, skipped);
    for fs in list(&report["filesystems"]) {
        check_filesystem(fs);
    }
}

/// A report is complete unless it was interrupted, or something was skipped that matters.
pub(crate) fn check_complete<'a>(report: &Value, skipped: impl Iterator<Item = &'a Value>) {
    let matters = |skip: &Value| skip["matters"].as_bool().expect("a skip says whether it matters");
    let any_matters = skipped.map(matters).fold(false, |any, matters| any | matters);
    let is_complete = !any_matters && report["interrupted"] == false;
    assert_eq!(report["complete"], is_complete, "{report:#}");
}

fn check_filesystem(fs: &Value) {
    let capacity = &fs["capacity"];
    if !capacity["uncounted"].is_null() {
        let uncounted: i128 = list(&capacity["uncounted"]).iter().map(|part| number(&part["bytes"])).sum();
        let device = number(&capacity["device_bytes"]);
        assert_eq!(number(&capacity["size_bytes"]) + uncounted, device, "the device: {fs:#}");
    }
    let used = number(&capacity["used_bytes"]);
    let rows = list(&fs["ledger"]);
    let sum: i128 = rows.iter().map(|row| number(&row["bytes"])).sum();
    assert_eq!(sum, used, "rows and used bytes: {fs:#}");
    let visible = number(&fs["visible_bytes"]);
    assert_eq!(number(&fs["gap_bytes"]), used - visible, "{fs:#}");
    assert_eq!(row(fs, "visible"), visible, "{fs:#}");
    let mut causes: Vec<_> = rows.iter().map(|row| row["cause"].as_str()).collect();
    causes.sort_unstable();
    causes.dedup();
    assert_eq!(causes.len(), rows.len(), "one row a cause: {:#}", fs["ledger"]);
    for row in rows {
        let remainder = row["cause"] == "unexplained";
        assert_eq!(row["basis"] == "remainder", remainder, "{row:#}");
    }

    let holders = list(&fs["deleted"]);
    let held: i128 = holders.iter().map(|h| number(&h["bytes"])).sum();
    let rows = row(fs, "unlinked_open") + row(fs, "unlinked_kernel") + row(fs, "unlinked_unattributed");
    assert_eq!(rows, held, "each held inode counted once: {fs:#}");
    let key = |h: &Value| (h["dev"].to_string(), h["subvolume"].to_string(), h["inode"].to_string());
    let mut inodes: Vec<_> = holders.iter().map(key).collect();
    inodes.sort_unstable();
    inodes.dedup();
    assert_eq!(inodes.len(), holders.len(), "{:#}", fs["deleted"]);

    let hidden = list(&fs["hidden"]);
    let bytes: i128 = hidden.iter().map(|h| number(&h["bytes"])).sum();
    assert_eq!(row(fs, "hidden_by_mount"), bytes, "{fs:#}");
    for hidden in hidden.iter().filter(|hidden| !hidden["largest"].is_null()) {
        check_largest(list(&hidden["largest"]), number(&hidden["bytes"]));
    }
    for outside in list(&fs["ledger"]).iter().filter(|row| row["cause"] == "outside_mount") {
        check_largest(list(&outside["detail"]), number(&outside["bytes"]));
    }
    for skip in list(&fs["skipped"]) {
        let path = skip["path"].as_str();
        assert!(path.is_none_or(|p| p.starts_with('/')), "{skip:#}");
    }
}

/// Parts of a whole, the largest first, none of them empty.
fn check_largest(largest: &[Value], whole: i128) {
    let bytes: Vec<_> = largest.iter().map(|part| number(&part["bytes"])).collect();
    assert!(bytes.is_sorted_by(|a, b| a >= b), "{largest:#?}");
    assert!(bytes.iter().all(|&part| 0 < part && part <= whole), "{whole}: {largest:#?}");
}
