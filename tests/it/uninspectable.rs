// SPDX-License-Identifier: MIT OR Apache-2.0

//! Processes that cannot be inspected: they matter where they could hold something that is not known.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::MIB;
use crate::support::filesystem::Filesystem;
use crate::support::holder::Holder;
use crate::support::report::{check, list, only, row, skips};
use crate::support::whyfull::{Run, Whyfull, whyfull};

/// Runs the command without the right to look into processes that have it, beside one that has. One that has
/// not holds a deleted file.
const BESIDE_A_STRONGER_PROCESS: &str = r#"
    weaker() { setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace "$@"; }
    for last; do :; done
    mkfifo "$last/in" "$last/out" && exec 3<>"$last/in" || exit 9
    sleep 1000 &
    weaker "$0" fd "$last/file" <&3 >"$last/out" &
    read -r ready <"$last/out" && weaker "$@""#;

/// The same, and the stronger one holds another.
const WITH_A_STRONGER_HOLDER: &str = r#"
    weaker() { setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace "$@"; }
    for last; do :; done
    mkfifo "$last/in" "$last/out" && exec 3<>"$last/in" || exit 9
    "$0" fd "$last/file" <&3 >"$last/out" &
    read -r ready <"$last/out" && weaker "$@""#;

/// What the command says of the filesystem at `path`, in JSON and on the screen.
fn both(run: &Whyfull, path: &Path) -> (Run, Run, Value) {
    let clean = || ["in", "out"].map(|name| fs::remove_file(path.join(name)));
    let json = run.clone().arg("--json").arg(path).run();
    let _ = clean();
    let text = run.clone().arg("-v").arg(path).run();
    let _ = clean();
    let report = serde_json::from_str(json.text()).unwrap();
    (json, text, report)
}

fn matters(skips: &[&Value]) -> Vec<bool> {
    skips.iter().map(|skip| skip["matters"].as_bool().unwrap()).collect()
}

#[test]
fn every_listed_file_has_a_holder() {
    require_root!();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::xfs()] {
        let run = whyfull().after(BESIDE_A_STRONGER_PROCESS);
        let (json, text, report) = both(&run, fs.path());
        // XFS allocates more than is written.
        assert!(row(only(&report), "unlinked_open") >= i128::from(MIB), "{report:#}");
        check(&report);
        let skipped = skips(only(&report), "process");
        assert!(!skipped.is_empty() && matters(&skipped).iter().all(|matters| !matters), "{report:#}");
        assert_eq!((json.code(), &report["complete"]), (Some(0), &true.into()), "{report:#}");
        assert_eq!(text.code(), Some(0), "{text:?}");
        let told =
            ["Could not be read", "Could not be inspected"].iter().any(|words| text.text().contains(words));
        assert!(!told && text.text().contains("/proc/"), "{text:?}");
    }
}

#[test]
fn a_listed_file_without_a_known_holder() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (json, text, report) = both(&whyfull().after(WITH_A_STRONGER_HOLDER), fs.path());
    assert_eq!(row(only(&report), "unlinked_unattributed"), i128::from(MIB), "{report:#}");
    let skipped = skips(only(&report), "process");
    assert!(!skipped.is_empty() && matters(&skipped).iter().all(|matters| *matters), "{report:#}");
    assert_eq!((json.code(), &report["complete"]), (Some(1), &false.into()), "{report:#}");
    assert!(text.text().contains("Could not be inspected"), "{text:?}");
}

/// tmpfs keeps no list, but no byte is missing.
#[test]
fn a_ledger_that_closes_without_a_list() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    let (json, _, report) = both(&whyfull().after(BESIDE_A_STRONGER_PROCESS), fs.path());
    assert_eq!(row(only(&report), "unlinked_open"), i128::from(MIB), "{report:#}");
    let skipped = skips(only(&report), "process");
    assert!(!skipped.is_empty() && matters(&skipped).iter().all(|matters| !matters), "{report:#}");
    assert_eq!((json.code(), &report["complete"]), (Some(0), &true.into()), "{report:#}");
    let (json, _, report) = both(&whyfull().after(WITH_A_STRONGER_HOLDER), fs.path());
    assert_eq!(row(only(&report), "unexplained"), i128::from(MIB), "{report:#}");
    assert_eq!((json.code(), &report["complete"]), (Some(1), &false.into()), "{report:#}");
}

/// Whatever a tmpfs without a limit holds, its sums agree: it counts nothing itself.
#[test]
fn a_ledger_that_cannot_but_close() {
    require_root!();
    let fs = Filesystem::tmpfs(0);
    let holder = Holder::start("fd", &fs.path().join("file"));
    let run = whyfull().in_pid_namespace().arg(fs.path()).arg("--json").run();
    let report = run.json();
    assert_eq!(row(only(&report), "unexplained"), 0, "{report:#}");
    assert_eq!(list(&only(&report)["deleted"]).len(), 0, "{}: {report:#}", holder.pid());
    assert_eq!((run.code(), &report["complete"]), (Some(1), &false.into()), "{report:#}");
}

#[test]
fn the_command_deleted() {
    require_root!();
    let deleted = |script| whyfull().arg("deleted").after(script);
    let fs = Filesystem::ext4(64 * MIB);
    let (json, text, report) = both(&deleted(BESIDE_A_STRONGER_PROCESS), fs.path());
    let skipped = skips(&report, "process");
    assert!(!skipped.is_empty() && matters(&skipped).iter().all(|matters| !matters), "{report:#}");
    assert_eq!((json.code(), &report["complete"]), (Some(0), &true.into()), "{report:#}");
    assert!(text.text().contains("nothing that matters was skipped"), "{text:?}");
    let (json, _, report) = both(&deleted(WITH_A_STRONGER_HOLDER), fs.path());
    assert_eq!((json.code(), &report["complete"]), (Some(1), &false.into()), "{report:#}");
    // Nothing is counted here that could show that no file is missing.
    let fs = Filesystem::tmpfs(64 * MIB);
    let (json, _, report) = both(&deleted(BESIDE_A_STRONGER_PROCESS), fs.path());
    assert_eq!((json.code(), &report["complete"]), (Some(1), &false.into()), "{report:#}");
}
