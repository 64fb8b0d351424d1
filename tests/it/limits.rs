// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the machine gives little: descriptors, threads, an answer in time, a place
//! to write to.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setresgid, setresuid};
use serde_json::Value;

use crate::support::filesystem::Filesystem;
use crate::support::fuse::Fuse;
use crate::support::report::{check, list, only, row};
use crate::support::whyfull::whyfull;
use crate::support::{MIB, du, tree};

/// A user of this test's alone: the limit on processes counts all of a user's.
const LONER: u32 = 65_533;

#[test]
fn few_descriptors() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    tree::chain(&fs.path().join("deep"), "a", 300);
    tree::chain(&fs.path().join("deeper"), "b", 300);
    let expected = i128::from(du(fs.path()));
    for limit in [10, 14, 18, 22, 26, 30, 34, 40, 64] {
        let run = whyfull().arg(fs.path()).arg("--json").open_files(limit).run();
        if run.code() == Some(2) {
            // No descriptor left to start with.
            assert!(limit < 16, "{limit}: {run:?}");
            continue;
        }
        let report = run.json();
        let skipped = list(&only(&report)["skipped"]).iter().any(|skip| skip["kind"] == "directory");
        assert!(skipped || row(only(&report), "visible") == expected, "{limit}: {report:#}");
        assert!(!skipped || limit < 22, "{limit}: {report:#}");
    }
}

fn with_processes(limit: u64, command: &mut Command) -> &mut Command {
    let drop_rights = move || {
        setrlimit(Resource::RLIMIT_NPROC, limit, limit)?;
        setresgid(Gid::from_raw(LONER), Gid::from_raw(LONER), Gid::from_raw(LONER))?;
        setresuid(Uid::from_raw(LONER), Uid::from_raw(LONER), Uid::from_raw(LONER))
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(move || drop_rights().map_err(|errno: Errno| errno.into())) }
}

#[test]
fn few_threads() {
    require_root!();
    let fs = Filesystem::ext4(16 * MIB);
    let expected = i128::from(du(&fs.path().join("lost+found")));
    for limit in 1..8 {
        let mut command = whyfull().arg(fs.path()).arg("--json").command();
        let output = with_processes(limit, &mut command).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{limit}: {output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        check(&report);
        assert!(row(only(&report), "visible") >= expected, "{limit}: {report:#}");
    }
}

#[test]
fn many_threads() {
    require_root!();
    let fs = Filesystem::ext4(16 * MIB);
    let report = whyfull().arg(fs.path()).args(&["-j", "5000"]).report();
    let skipped = list(&only(&report)["skipped"]).iter();
    assert!(skipped.clone().all(|skip| skip["errno"] != "ETIMEDOUT"), "{report:#}");
}

#[test]
fn an_interrupt_while_a_filesystem_is_asked() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let dead = fs.beside("dead");
    let _fuse = Fuse::dead(&dead);
    let run = whyfull().arg(&dead).args(&["--timeout", "1s"]).start();
    // Nothing tells that it is being asked; too early, and it dies of the signal at once.
    sleep(Duration::from_millis(400));
    run.signal(Signal::SIGINT);
    let run = run.finish();
    assert_eq!(run.signal(), Some(Signal::SIGINT), "{run:?}");
    assert!(run.text().contains(dead.to_str().unwrap()), "{run:?}");
}

#[test]
fn nowhere_to_write() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let status = |command: &mut Command| command.output().unwrap().status.code();
    assert_eq!(status(whyfull().arg("/nowhere").command().stderr(full())), Some(2));
    assert_eq!(status(whyfull().arg("/proc").command().stdout(full())), Some(2));
    assert_eq!(status(whyfull().arg("/proc").args(&["-o", "/dev/full"]).command().stdout(full())), Some(2));
}

#[test]
fn a_filesystem_without_a_size() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let at = fs.beside("unlimited");
    let tmpfs = Some("tmpfs");
    mount(tmpfs, &at, tmpfs, MsFlags::empty(), Some("size=0")).unwrap();
    std::fs::write(at.join("file"), vec![1; 5 << 20]).unwrap();
    let run = whyfull().arg(&at);
    let text = run.run();
    assert!(text.text().contains("does not report its size"), "{text:?}");
    assert!(text.text().contains("add up to 5.0 MiB"), "{text:?}");
    assert_eq!(row(only(&run.report()), "visible"), i128::from(5 * MIB));
}
