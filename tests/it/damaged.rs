// SPDX-License-Identifier: MIT OR Apache-2.0

//! ext4 that is damaged, and mounted all the same: nothing wrong is said, and what is damaged is told.

use std::path::Path;

use crate::support::MIB;
use crate::support::filesystem::Filesystem;
use crate::support::image::Image;
use crate::support::report::{list, number, only, row};
use crate::support::routes::{agrees, counting, run};
use crate::support::whyfull::whyfull;

/// Without a journal, so that what is written here is not written over, and without checksums.
const PLAIN: &[&str] = &["-b", "1024", "-O", "^has_journal,^metadata_csum"];

#[test]
fn what_no_name_leads_to_any_more() {
    require_root!();
    let image = Image::new(PLAIN);
    let whole = row(&agrees(image.mounted().path(), "whole"), "visible");
    image.debugfs("unlink d");
    let fs = image.mounted();
    for method in ["table", "walk"] {
        let report = run(fs.path(), method);
        let at = only(&report);
        assert!(row(at, "unreachable") > 100_000, "{at:#}");
        assert_eq!(row(at, "unreachable") + row(at, "visible"), whole, "{at:#}");
        assert_eq!(row(at, "unexplained"), 0, "{at:#}");
        assert_eq!(number(&at["unexplained_bound_bytes"]), 0, "{at:#}");
    }
}

/// Where the kernel's own sums make no sense, nothing is said to be healthy.
#[test]
fn counters_that_cannot_be_right() {
    require_root!();
    let image = Image::new(&["-O", "bigalloc", "-b", "1024", "-C", "4096"]);
    // Less than is free, less than nothing, and more than the kernel believes.
    for (overhead, is_wrong) in [("4000", true), ("9000", true), ("30000", false)] {
        image.debugfs(&format!("ssv overhead_clusters {overhead}"));
        let fs = image.mounted();
        let report = run(fs.path(), "auto");
        let code = &only(&report)["findings"][0]["code"];
        assert_eq!(code == "counters_wrong", is_wrong, "{report:#}");
        let run = whyfull().arg(fs.path()).in_pid_namespace().run();
        let text = run.text().replace('\n', " ");
        assert_eq!(text.contains("its own counters are wrong"), is_wrong, "{text}");
        assert_eq!(text.contains("Nothing is missing"), !is_wrong, "{text}");
    }
}

/// Damages an image.
type Damage = fn(&Image);

#[test]
fn tables_that_make_no_sense_are_told() {
    require_root!();
    let damages: [(Damage, &str); 3] = [
        // An entry that ends within itself: the kernel leaves out what follows.
        (|image| image.put(image.block_of("d") * 1024 + 12 + 4, &[5, 0]), "left_out"),
        // A file that takes up more than there is.
        (|image| image.debugfs("sif d/file blocks 0xfffffff0"), "inode"),
        // The kernel finds a file all the same that is marked as free.
        (|image| image.debugfs("freei d/file"), "inode_tables"),
    ];
    for (damage, kind) in damages {
        let image = Image::new(PLAIN);
        damage(&image);
        let fs = image.mounted();
        refuses(fs.path(), kind);
    }
}

fn refuses(path: &Path, kind: &str) {
    let tables = counting(path, "table").run();
    assert_eq!(tables.code(), Some(2), "{tables:?}");
    assert!(tables.errors().contains("makes no sense"), "{tables:?}");
    assert!(tables.errors().contains("e2fsck -n"), "{tables:?}");
    let auto = counting(path, "auto").in_pid_namespace().run();
    assert_eq!(auto.code(), Some(1), "{auto:?}");
    let report = auto.json();
    let skipped = list(&only(&report)["skipped"]);
    assert!(skipped.iter().any(|skip| skip["kind"] == kind && skip["errno"] == "EUCLEAN"), "{report:#}");
}

#[test]
fn any_number_will_do() {
    require_root!();
    let fs = Filesystem::ext4(16 * MIB);
    let most = u64::MAX.to_string();
    let run =
        whyfull().arg(fs.path()).args(&["--json", "--dirs", &most, "-j", &most]).in_pid_namespace().run();
    assert_eq!(run.code(), Some(0), "{run:?}");
}
