// SPDX-License-Identifier: MIT OR Apache-2.0

//! tmpfs keeps nothing but files, so that its ledger leaves nothing open, however it is mounted.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MsFlags, mount};
use serde_json::Value;

use crate::support::filesystem::Filesystem;
use crate::support::holder::Holder;
use crate::support::report::{check, list, number, only, report, row};
use crate::support::whyfull::whyfull;
use crate::support::{MIB, du, tree};

/// Everything that a tmpfs can hold, small and large.
fn populate(root: &Path) {
    tree::nasty(&root.join("tree"), 6);
    fs::write(root.join("large"), vec![1; 5 << 20]).unwrap();
    let sparse = File::create_new(root.join("sparse")).unwrap();
    sparse.set_len(20 * MIB).unwrap();
    sparse.write_all_at(b"island", 9 * MIB).unwrap();
    for (name, flags) in
        [("reserved", FallocateFlags::empty()), ("beyond", FallocateFlags::FALLOC_FL_KEEP_SIZE)]
    {
        let file = File::create_new(root.join(name)).unwrap();
        fallocate(&file, flags, 0, 3 << 20).unwrap();
    }
    // A page of its own; shorter ones lie in the inode.
    symlink("long/".repeat(300), root.join("link")).unwrap();
    let shrunk = File::options().write(true).open(root.join("large")).unwrap();
    shrunk.set_len(3 << 20).unwrap();
}

fn used(path: &Path) -> u64 {
    let space = nix::sys::statvfs::statvfs(path).unwrap();
    (space.blocks() - space.blocks_free()) * space.fragment_size()
}

#[test]
fn nothing_is_left_open_however_it_is_mounted() {
    require_root!();
    for options in [
        "size=64m",
        "size=0",
        "size=64m,nr_inodes=10000",
        "size=64m,nr_inodes=0",
        "size=64m,huge=always",
        "size=64m,huge=within_size",
        "size=64m,noswap",
    ] {
        let base = Filesystem::tmpfs(MIB);
        let at = base.beside("tmpfs");
        match mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), Some(options)) {
            Err(Errno::EINVAL) => {
                eprintln!("not tested: this kernel has no {options}");
                continue;
            }
            mounted => mounted.unwrap(),
        }
        populate(&at);
        let held = [("fd", 7), ("map", 2)]
            .map(|(situation, mib)| Holder::start_sized(situation, &at.join(situation), mib * MIB));
        let _elsewhere = ["memfd", "sysv-shm"].map(|situation| Holder::start(situation, &at.join(situation)));
        let report = report(&at);
        let fs_report = only(&report);
        let (visible, used) = (du(&at), used(&at));
        // Huge pages beyond the end of a file are taken back some time, so what it took up at first may
        // be more than it does. Without a limit nothing else tells.
        let at_first: u64 = held.iter().map(Holder::bytes).sum();
        let held = if used == 0 { at_first } else { used - visible };
        assert!(held <= at_first && held >= 9 * MIB, "{options}");
        assert_eq!(row(fs_report, "visible"), i128::from(visible), "{options}");
        assert_eq!(row(fs_report, "unlinked_open"), i128::from(held), "{options}");
        assert_eq!(row(fs_report, "unexplained"), 0, "{options}: {fs_report:#}");
        assert_eq!(number(&fs_report["unexplained_bound_bytes"]), 0, "{options}");
        assert_eq!(list(&fs_report["findings"]).len(), 0, "{options}: {fs_report:#}");
        let run = whyfull().arg(&at).run();
        assert!(run.text().contains("tmpfs, in memory  "), "{run:?}");
        assert!(run.text().contains("All explained, to the byte."), "{run:?}");
    }
}

/// There nobody can see what others hold, but nobody else can hold anything there.
#[test]
fn in_a_user_namespace() {
    require_root!();
    let script = r#"mount -t tmpfs -o size=16m tmpfs "$1" && mkdir "$1/sub" && head -c 3M /dev/zero >"$1/sub/file" &&
        exec 9>"$1/held" && rm "$1/held" && head -c 2M /dev/zero >&9 && exec "$0" --json "$1""#;
    let dir = crate::support::temp_dir();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    let output = command.arg(env!("CARGO_BIN_EXE_whyfull")).arg(dir.path()).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    check(&report);
    let fs_report = only(&report);
    assert_eq!(row(fs_report, "visible"), i128::from(3 * MIB), "{fs_report:#}");
    assert_eq!(row(fs_report, "unlinked_open"), i128::from(2 * MIB), "{fs_report:#}");
    assert_eq!(row(fs_report, "unexplained"), 0, "{fs_report:#}");
}
