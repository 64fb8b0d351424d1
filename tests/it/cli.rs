// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command line: exit status, where the report goes, signals.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use nix::mount::MsFlags;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::filesystem::{Filesystem, mount_tmpfs};
use crate::support::fuse::Fuse;
use crate::support::holder::Holder;
use crate::support::report::{holder_of, list, only, row};
use crate::support::whyfull::{Run, whyfull};
use crate::support::world::World;
use crate::support::{MIB, temp_dir, tree};

#[test]
fn usage_errors_are_one_line_and_status_2() {
    for args in [
        ["--nonsense"].as_slice(),
        &["-Z"],
        &["--threads", "none"],
        &["-j0"],
        &["--top", "-1"],
        &["--timeout", "soon"],
        &["--method", "guess"],
        &["--format", "poetry"],
        &["--color", "sometimes"],
        &["--depth", "deep"],
        &["--output"],
        &["--json=yes"],
        &["--all=no"],
    ] {
        let run = whyfull().args(args).run();
        run.assert_refused();
    }
}

#[test]
fn a_path_that_does_not_exist() {
    let dir = temp_dir();
    let missing = dir.path().join("missing");
    let run = whyfull().arg(&missing).run();
    run.assert_refused();
    assert!(run.errors().contains(missing.to_str().unwrap()), "{run:?}");
    // An error must not be a way onto the terminal either.
    let run = whyfull().arg(dir.path().join("a\nb\x1b[31m\u{202e}c")).run();
    run.assert_refused();
    assert!(!run.errors().contains(['\x1b', '\u{202e}']), "{run:?}");
}

#[test]
fn help_and_version_are_no_errors() {
    for arg in ["--help", "-h", "--version", "-V"] {
        let run = whyfull().arg(arg).run();
        assert_eq!(run.code(), Some(0), "{run:?}");
        assert_eq!(run.errors(), "");
        assert!(run.text().contains("whyfull"), "{run:?}");
        assert!(run.text().lines().all(|line| line.chars().count() <= 100));
    }
}

#[test]
fn status_says_whether_everything_was_read() {
    require_root!();
    let fs = Filesystem::ext4(16 * MIB);
    fs::remove_dir(fs.path().join("lost+found")).unwrap();
    fs::write(fs.path().join("file"), "x").unwrap();
    let run = whyfull().arg(fs.path());
    // The filesystem itself says that nothing is held: then it does not matter who can be seen.
    let json = run.clone().arg("--json").run();
    assert_eq!((json.code(), &json.json()["complete"]), (Some(0), &true.into()), "{json:?}");
    assert_eq!(json.errors(), "");
    let confined = run.clone().arg("--json").in_pid_namespace().run();
    assert_eq!((confined.code(), &confined.json()["complete"]), (Some(0), &true.into()), "{confined:?}");

    let closed = fs.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let partial = run.clone().by_nobody().in_pid_namespace().run();
    assert_eq!(partial.code(), Some(1), "{partial:?}");
    let name = closed.to_str().unwrap();
    assert!(!partial.text().contains(name), "{partial:?}");
    let verbose = run.by_nobody().in_pid_namespace().arg("-v").run();
    assert_eq!(verbose.code(), Some(1), "{verbose:?}");
    let all = [verbose.text(), verbose.errors()].concat();
    assert!(all.contains(name), "every skip: {verbose:?}");
}

#[test]
fn a_closed_pipe_is_quiet() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    for format in ["text", "json"] {
        let run = whyfull().arg(fs.path()).args(&["--format", format]);
        let mut command = run.command();
        // Closed before the first byte: what `head -c1` does, without the race.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn();
        let out = child.unwrap().wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stderr), "");
        assert_ne!(out.status.code(), Some(101));
    }
}

#[test]
fn a_full_disk_for_the_report_is_an_error() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = whyfull().arg(fs.path()).command();
    let child = command.stdout(full).stderr(Stdio::piped()).spawn();
    let out = child.unwrap().wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&out.stderr).lines().count(), 1);
}

/// Runs with `-o`, and returns what is in the file then.
fn saved(fs: &Path, output: &Path) -> String {
    let run = whyfull().arg(fs).args(&["--json", "-o"]).arg(output).run();
    assert!(matches!(run.code(), Some(0 | 1)), "{run:?}");
    assert_eq!(run.text(), "", "{run:?}");
    let text = fs::read_to_string(output).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    crate::support::report::check(&report);
    assert_eq!(only(&report)["mountpoint"], fs.to_str().unwrap());
    let beside = output.parent().unwrap().read_dir().unwrap();
    for entry in beside {
        let name = entry.unwrap().file_name();
        assert!(!name.as_encoded_bytes().starts_with(b"."), "left over: {}", name.display());
    }
    text
}

#[test]
fn the_report_goes_to_a_file() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let dir = temp_dir();
    let file = dir.path().join("report.json");
    saved(fs.path(), &file);
    let first = fs::metadata(&file).unwrap();
    assert_eq!(first.mode() & 0o133, 0, "not for everybody to write");

    // Whoever has the old one open keeps it whole.
    fs::write(&file, "old").unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    let mut old = File::open(&file).unwrap();
    saved(fs.path(), &file);
    let mut text = String::new();
    old.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old");

    let link = dir.path().join("link");
    symlink(&file, &link).unwrap();
    fs::write(&file, "old").unwrap();
    saved(fs.path(), &link);
    assert!(link.is_symlink(), "the link stays");
    assert!(fs::read_to_string(&file).unwrap().starts_with('{'));
    assert_eq!(dir.path().read_dir().unwrap().count(), 2, "nothing is left over");
}

#[test]
fn the_report_goes_to_a_device() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    for output in ["/dev/stdout", "-", "/dev/null"] {
        let run = whyfull().arg(fs.path()).args(&["--json", "-o", output]).run();
        assert!(matches!(run.code(), Some(0 | 1)), "{run:?}");
        if output == "/dev/stdout" {
            run.json();
        }
    }
    let kind = fs::metadata("/dev/null").unwrap().file_type();
    assert!(!kind.is_file(), "a device is written to, not replaced");
}

#[test]
fn a_file_that_cannot_be_written_assert_refused_before_the_run() {
    let dir = temp_dir();
    fs::write(dir.path().join("file"), "").unwrap();
    for output in ["missing/report", "file/report", "."] {
        let output = dir.path().join(output);
        let run = whyfull().arg("/").arg("-o").arg(&output).run();
        run.assert_refused();
    }
    assert_eq!(dir.path().read_dir().unwrap().count(), 1);
}

#[test]
fn formats_are_the_same_however_they_are_asked_for() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let json = whyfull().arg(fs.path()).arg("--json").run().json();
    let format = whyfull().arg(fs.path()).args(&["--format=json"]).run().json();
    assert_eq!(only(&json)["ledger"], only(&format)["ledger"]);
    let text = whyfull().arg(fs.path()).run();
    let named = whyfull().arg(fs.path()).args(&["--format", "text"]).run();
    let first = |run: &Run| run.text().lines().next().map(str::to_owned);
    assert_eq!(first(&text), first(&named));
}

#[test]
fn quiet_when_nobody_watches() {
    require_root!();
    let fs = Filesystem::tmpfs(16 * MIB);
    tree::flat(&fs.path().join("flat"), 5000);
    for args in [[].as_slice(), &["-q"], &["--no-progress"], &["--json"]] {
        let run = whyfull().arg(fs.path()).args(args).run();
        assert_eq!(run.errors(), "", "no progress without a terminal");
    }
}

#[test]
fn an_interrupt_prints_what_is_known_so_far() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let endless = fs.beside("endless");
    let fuse = Fuse::endless(&endless);
    let text = whyfull().arg(&endless).args(&["-j2"]).start();
    fuse.wait_until_walked(30);
    text.signal(Signal::SIGINT);
    let text = text.finish();
    assert_eq!(text.signal(), Some(Signal::SIGINT), "{text:?}");
    let shown = text.text().to_lowercase();
    assert!(shown.contains("partial") || shown.contains("interrupted"), "{text:?}");
    assert!(text.text().contains(endless.to_str().unwrap()), "{text:?}");

    // Another tree: of the first, more may have been walked than was waited for.
    let endless = fs.beside("endless too");
    let fuse = Fuse::endless(&endless);
    let json = whyfull().arg(&endless).args(&["--json", "-j2"]).start();
    fuse.wait_until_walked(100);
    json.signal(Signal::SIGINT);
    let json = json.finish();
    assert_eq!(json.signal(), Some(Signal::SIGINT), "{json:?}");
    let report = json.json();
    assert_eq!(report["complete"], false);
    assert!(row(only(&report), "visible") > 0);
    assert_eq!(list(&report["filesystems"]).len(), 1);
}

#[test]
fn a_second_interrupt_ends_at_once() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let endless = fs.beside("endless");
    let mut fuse = Fuse::endless(&endless);
    let run = whyfull().arg(&endless);
    let run = run.within(std::time::Duration::from_secs(20)).start();
    fuse.wait_until_walked(30);
    // The walk is stuck in the kernel then, and cannot notice the first one.
    fuse.stall();
    run.signal(Signal::SIGINT);
    let caught = format!("/proc/{}/status", run.pid());
    while pending_interrupt(&caught) {
        std::thread::yield_now();
    }
    run.signal(Signal::SIGINT);
    let run = run.finish();
    assert_eq!(run.signal(), Some(Signal::SIGINT), "{run:?}");
}

/// Two signals that are pending together are only one.
fn pending_interrupt(status: &str) -> bool {
    let status = fs::read_to_string(status).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 2 != 0)
}

#[test]
fn an_interrupt_leaves_no_half_written_file() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let endless = fs.beside("endless");
    let fuse = Fuse::endless(&endless);
    let dir = temp_dir();
    let file = dir.path().join("report.json");
    let run = whyfull().arg(&endless).args(&["--json", "-o"]).arg(&file);
    let run = run.start();
    fuse.wait_until_walked(30);
    run.signal(Signal::SIGINT);
    assert_eq!(run.finish().signal(), Some(Signal::SIGINT));
    let report = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    crate::support::report::check(&report);
    assert_eq!(report["complete"], false);
    assert_eq!(dir.path().read_dir().unwrap().count(), 1);
}

/// As in a container in which the machine's own root directory is mounted.
#[test]
fn another_root_directory_tells_what_it_tells_inside() {
    require_root!();
    let world = World::new();
    let fs = world.directory("data");
    mount_tmpfs(&fs, 8 * MIB, MsFlags::empty());
    let held = Holder::start("fd", &fs.join("file"));
    let elsewhere = temp_dir();
    let from_outside = |args: &[&str]| {
        let run = whyfull().args(args).arg("--root").arg(world.path("")).arg("--json").arg("-oreport");
        let status = run.command().current_dir(elsewhere.path()).status().unwrap();
        assert!(matches!(status.code(), Some(0 | 1)));
        let text = fs::read(elsewhere.path().join("report")).expect("the report goes where the caller is");
        serde_json::from_slice::<Value>(&text).unwrap()
    };
    let (outside, inside) = (from_outside(&["/data"]), world.whyfull().arg("/data").report());
    assert_eq!(only(&outside)["mountpoint"], "/data");
    assert_eq!(holder_of(only(&outside), held.inode()), holder_of(only(&inside), held.inode()));
    assert_eq!(only(&outside)["ledger"], only(&inside)["ledger"]);
    let all = from_outside(&["deleted"]);
    let mountpoints: Vec<_> = list(&all["filesystems"]).iter().map(|on| &on["mountpoint"]).collect();
    assert_eq!(mountpoints, ["/", "/data"]);
}

#[test]
fn a_root_directory_that_is_none() {
    require_root!();
    let dir = temp_dir();
    let run = whyfull().arg("--root").arg(dir.path()).run();
    run.assert_refused();
    assert!(run.errors().contains("no proc filesystem"), "{run:?}");
    let run = whyfull().arg("--root").arg(dir.path().join("missing")).run();
    run.assert_refused();
    let run = whyfull().arg("--root").arg("/").by_nobody().run();
    run.assert_refused();
    assert!(run.errors().contains("CAP_SYS_CHROOT"), "{run:?}");
}
