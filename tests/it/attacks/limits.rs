// SPDX-License-Identifier: MIT OR Apache-2.0

//! Little memory, few descriptors, many mounts: a report, or one line and status 2. Never an abort, never minutes.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::resource::{Resource, setrlimit};
use serde_json::Value;

use crate::support::filesystem::{Filesystem, bind, mount_tmpfs};
use crate::support::holder::Holder;
use crate::support::report::{list, only, row, skips};
use crate::support::whyfull::{Whyfull, whyfull};
use crate::support::world::World;
use crate::support::{MIB, du, du_inodes, tree};

/// Where it used to take minutes: some seconds, or many on a busy machine.
const SECONDS: Duration = Duration::from_secs(90);

fn with_limit(run: &Whyfull, resource: Resource, limit: u64) -> Output {
    let mut command: Command = run.command();
    // SAFETY: the closure makes a system call only.
    unsafe { command.pre_exec(move || Ok(setrlimit(resource, limit, limit)?)) };
    command.output().unwrap()
}

/// A report, or one line.
fn ends_well(output: &Output, what: &str) {
    let lines = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0 | 1) => assert_eq!(lines, "", "{what}: {output:?}"),
        Some(2) => {
            assert_eq!((lines.lines().count(), output.stdout.len()), (1, 0), "{what}: {output:?}");
            assert!(!lines.contains("panicked"), "{what}: {output:?}");
        }
        // ld.so has no room for the program: it was not started.
        Some(127) => assert!(lines.contains("while loading shared libraries"), "{what}: {output:?}"),
        _ => panic!("{what}: signal {:?}: {output:?}", output.status.signal()),
    }
}

#[test]
fn little_memory() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    for directory in 0..40 {
        let directory = fs.path().join(format!("d{directory}"));
        fs::create_dir(&directory).unwrap();
        (0..50).for_each(|file| fs::write(directory.join(format!("f{file}")), "").unwrap());
    }
    tree::chain(&fs.path().join("deep"), "n", 300);
    let holder = Holder::start("fd", &fs.path().join("held"));
    let out = Filesystem::tmpfs(64 * MIB);
    let commands = [
        whyfull().arg(fs.path()).args(&["--method", "walk", "--dirs", "5"]),
        whyfull().arg(fs.path()).args(&["--method", "walk", "--json", "-j", "64"]),
        whyfull().arg(fs.path()).args(&["--method", "table"]),
        whyfull().args(&["deleted"]).arg(fs.path()),
        whyfull().args(&["recover", &holder.what(), "--force"]).arg(out.path().join("copy")),
        whyfull().args(&["recover", "--all", "--force"]).arg(out.path()).arg("--filesystem").arg(fs.path()),
        whyfull().args(&["release", &holder.what(), "--dry-run"]),
    ];
    for mib in [16, 24, 32, 48, 64, 96, 128, 192] {
        for (number, command) in commands.iter().enumerate() {
            let output = with_limit(command, Resource::RLIMIT_AS, mib * MIB);
            ends_well(&output, &format!("command {number} with {mib} MiB"));
        }
    }
}

/// 64 MiB of addresses for the memory of each thread would be more than there is.
#[test]
fn enough_memory() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    for method in ["walk", "table"] {
        let run = whyfull().arg(fs.path()).args(&["--method", method]);
        let output = with_limit(&run, Resource::RLIMIT_AS, 192 * MIB);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

#[test]
fn a_report_file_that_may_not_grow() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let run = whyfull().arg(fs.path()).arg("-o").arg(fs.path().join("report"));
    let output = with_limit(&run, Resource::RLIMIT_FSIZE, 0);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    ends_well(&output, "no file may be written");
}

/// Many more levels than there are descriptors.
#[test]
fn a_very_deep_tree_with_few_descriptors() {
    require_root!();
    let fs = Filesystem::tmpfs(256 * MIB);
    tree::chain(&fs.path().join("deep"), "a", 40_000);
    let inodes = du_inodes(fs.path());
    for descriptors in [16, 24] {
        let begun = Instant::now();
        let run = whyfull().arg(fs.path()).args(&["--method", "walk"]).open_files(descriptors);
        let report = run.within(SECONDS).report();
        assert!(begun.elapsed() < SECONDS);
        let visible = list(&only(&report)["ledger"]).iter().find(|row| row["cause"] == "visible").unwrap();
        assert_eq!(visible["inodes"], inodes, "{descriptors}: {:?}", only(&report)["skipped"]);
    }
}

/// On the way back up each directory is needed once more.
#[test]
fn a_very_deep_tree_with_something_on_every_level() {
    require_root!();
    let fs = Filesystem::tmpfs(512 * MIB);
    tree::comb(&fs.path().join("comb"), 15_000);
    let (bytes, inodes) = (i128::from(du(fs.path())), du_inodes(fs.path()));
    for descriptors in [16, 40, 64, 96, 1024] {
        let run = whyfull().arg(fs.path()).args(&["--method", "walk"]).open_files(descriptors);
        let report = run.within(SECONDS).report();
        assert_eq!(
            skips(only(&report), "directory").len(),
            0,
            "{descriptors}: {:?}",
            only(&report)["skipped"]
        );
        assert_eq!(row(only(&report), "visible"), bytes, "{descriptors}");
        let visible = list(&only(&report)["ledger"]).iter().find(|row| row["cause"] == "visible").unwrap();
        assert_eq!(visible["inodes"], inodes, "{descriptors}");
    }
}

/// As many mounts below `at`; gone at once with this.
struct Many<'a>(&'a Path);

impl<'a> Many<'a> {
    const COUNT: usize = 3000;

    fn new(at: &'a Path, mount: impl Fn(&Path)) -> Self {
        mount_tmpfs(at, 16 * MIB, MsFlags::empty());
        let many = Self(at);
        for number in 0..Self::COUNT {
            let at = at.join(number.to_string());
            fs::create_dir(&at).unwrap();
            mount(&at);
        }
        many
    }
}

impl Drop for Many<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

fn deleted(run: &Whyfull) -> Value {
    let run = run.clone().args(&["--json"]).within(SECONDS).run();
    assert!(matches!(run.code(), Some(0 | 1)), "{run:?}");
    serde_json::from_slice(&run.stdout).unwrap()
}

#[test]
fn thousands_of_filesystems() {
    require_root!();
    let world = World::new();
    let at = world.directory("many");
    let _many = Many::new(&at, |at| mount_tmpfs(at, MIB, MsFlags::empty()));
    let held = Holder::start("fd", &at.join("1234/file"));
    let all = world.whyfull().args(&["-a"]).within(SECONDS).report();
    let filesystems = list(&all["filesystems"]);
    assert_eq!(filesystems.len(), Many::COUNT + 2);
    let unexplained = |fs: &&Value| row(fs, "unexplained") != 0;
    assert_eq!(filesystems.iter().filter(unexplained).count(), 0);
    let deleted = deleted(&world.whyfull().arg("deleted"));
    let [found] = list(&deleted["deleted"]) else { panic!("{:#}", deleted["deleted"]) };
    assert_eq!(found["inode"], held.inode());

    // Fewer descriptors than filesystems: some are left out, and nothing else suffers.
    let few = world.whyfull().args(&["-a"]).open_files(300).within(SECONDS).report();
    let left_out =
        list(&few["filesystems"]).iter().map(|fs| skips(fs, "filesystem")).filter(|s| !s.is_empty());
    let left_out: Vec<_> = left_out.map(|skips| skips[0]["errno"].clone()).collect();
    assert!(left_out.len() > 2000 && left_out.len() < 3000, "{}", left_out.len());
    assert!(left_out.iter().all(|errno| errno == "EMFILE"), "{:?}", left_out.first());
}

#[test]
fn thousands_of_mounts_of_one_filesystem() {
    require_root!();
    let fs = Filesystem::ext4_with(64 * MIB, &["-N", "8000"], "");
    fs::create_dir(fs.path().join("sub")).unwrap();
    fs::write(fs.path().join("sub/file"), vec![1; 50_000]).unwrap();
    let expected = i128::from(du(fs.path()));
    let at = fs.beside("many");
    let _many = Many::new(&at, |at| bind(&fs.path().join("sub"), at));
    // Mounts on it, too: each hides a directory.
    for number in 0..1000 {
        let covered = fs.path().join(format!("covered{number}"));
        fs::create_dir(&covered).unwrap();
        bind(Path::new("/proc"), &covered);
    }
    for method in ["walk", "table"] {
        let run = whyfull().arg(fs.path()).args(&["--method", method]).within(SECONDS);
        let report = run.report();
        let root = i128::from(du(fs.path()));
        assert!(row(only(&report), "visible") >= expected.min(root), "{method}");
        assert_eq!(row(only(&report), "unexplained"), 0, "{method}: {report:#}");
    }
    let run = whyfull().arg("deleted").arg(fs.path());
    assert_eq!(list(&deleted(&run)["deleted"]).len(), 0);
}
