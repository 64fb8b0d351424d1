// SPDX-License-Identifier: MIT OR Apache-2.0

//! Both ways to count files, which have to agree.

use std::path::Path;

use serde_json::Value;

use super::report::{list, only, row};
use super::whyfull::{Whyfull, whyfull};

/// Both routes on one filesystem: the same figures, all explained. Returns what the tables gave.
pub(crate) fn agrees(path: &Path, what: &str) -> Value {
    let tables = run(path, "table");
    let walk = run(path, "walk");
    let (from_tables, from_walk) = (only(&tables), only(&walk));
    assert_eq!(from_tables["method"], "inode_table");
    assert_eq!(from_walk["method"], "walk");
    for field in ["visible_bytes", "hidden", "directories", "deleted"] {
        assert_eq!(from_tables[field], from_walk[field], "{what}: {field}");
    }
    for cause in ["visible", "hidden_by_mount"] {
        let row = |fs: &Value| list(&fs["ledger"]).iter().find(|row| row["cause"] == cause).cloned();
        assert_eq!(row(from_tables), row(from_walk), "{what}");
    }
    for fs in [from_tables, from_walk] {
        assert_eq!(row(fs, "unexplained"), 0, "{what}: {:#}", fs["ledger"]);
        assert_eq!(row(fs, "unreachable"), 0, "{what}: {:#}", fs["ledger"]);
        assert_eq!(row(fs, "reservation"), 0, "{what}: {:#}", fs["ledger"]);
    }
    from_tables.clone()
}

/// A report that was counted this way.
pub(crate) fn run(path: &Path, method: &str) -> Value {
    // Among its own processes only: nobody else's are asked, and none is refused.
    counting(path, method).in_pid_namespace().run().json()
}

/// The command that counts this way.
pub(crate) fn counting(path: &Path, method: &str) -> Whyfull {
    whyfull().arg(path).args(&["--json", "--dirs", "1000", "--timeout", "1m", "--method", method])
}
