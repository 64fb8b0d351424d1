//! ext4 that is damaged, and mounted all the same: nothing wrong is said, and what is damaged is told.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::filesystem::Filesystem;
use crate::support::report::{list, number, only, row};
use crate::support::routes::{agrees, counting, run};
use crate::support::whyfull::whyfull;
use crate::support::{MIB, tool};

/// Without a journal, so that what is written here is not written over, and without checksums.
const PLAIN: &[&str] = &["-b", "1024", "-O", "^has_journal,^metadata_csum"];

/// An image with a directory `d` and a file of 100,000 bytes in it, in a directory of its own.
struct Image {
    _home: Filesystem,
    path: PathBuf,
}

impl Image {
    fn new(mkfs: &[&str]) -> Self {
        let home = Filesystem::tmpfs(64 * MIB);
        let (path, file) = (home.path().join("image"), home.path().join("file"));
        File::create_new(&path).unwrap().set_len(24 * MIB).unwrap();
        let args: Vec<_> = ["-q", "-F"].iter().chain(mkfs).map(OsStr::new).collect();
        tool("mkfs.ext4", &[args.as_slice(), &[path.as_os_str()]].concat());
        fs::write(&file, vec![7; 100_000]).unwrap();
        let image = Self { _home: home, path };
        image.debugfs("mkdir d");
        image.debugfs(&format!("write {} d/file", file.to_str().unwrap()));
        image
    }

    fn debugfs(&self, request: &str) {
        tool("debugfs", &["-w", "-R", request, self.path.to_str().unwrap()].map(OsStr::new));
    }

    /// Where the first block of `name` lies.
    fn block_of(&self, name: &str) -> u64 {
        let request = format!("blocks {name}");
        let printed = Command::new("debugfs").args(["-R", &request]).arg(&self.path).output().unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        printed.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn mounted(&self) -> Filesystem {
        Filesystem::of_image(&self.path, "")
    }
}

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

#[test]
fn tables_that_make_no_sense_are_told() {
    require_root!();
    let damages: [fn(&Image); 2] = [
        // An entry that ends within itself.
        |image| {
            let at = image.block_of("d") * 1024 + 12 + 4;
            File::options().write(true).open(&image.path).unwrap().write_all_at(&[5, 0], at).unwrap();
        },
        // A file that takes up more than there is.
        |image| image.debugfs("sif d/file blocks 0xfffffff0"),
    ];
    for damage in damages {
        let image = Image::new(PLAIN);
        damage(&image);
        let fs = image.mounted();
        refuses(fs.path());
    }
}

fn refuses(path: &Path) {
    let tables = counting(path, "table").run();
    assert_eq!(tables.code(), Some(2), "{tables:?}");
    assert!(tables.errors().contains("makes no sense"), "{tables:?}");
    let auto = counting(path, "auto").in_pid_namespace().run();
    assert_eq!(auto.code(), Some(1), "{auto:?}");
    let report = auto.json();
    let skipped = list(&only(&report)["skipped"]);
    assert!(
        skipped.iter().any(|skip| skip["kind"] == "inode_tables" && skip["errno"] == "EUCLEAN"),
        "{report:#}"
    );
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
