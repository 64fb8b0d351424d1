// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the black-box tests share: filesystems of their own, programs that hold
//! deleted files, the command under test, and GNU du as the oracle.
//!
//! A test touches nothing that it did not create. Whatever is mounted is mounted
//! in a mount namespace of the test's own thread, so that it goes away with the
//! test, however the test ends.

pub(crate) mod child;
pub(crate) mod filesystem;
pub(crate) mod flat_fuse;
pub(crate) mod fuse;
pub(crate) mod held;
pub(crate) mod holder;
pub(crate) mod image;
pub(crate) mod kernel;
pub(crate) mod loop_device;
pub(crate) mod overlay;
pub(crate) mod programs;
pub(crate) mod report;
pub(crate) mod routes;
pub(crate) mod tree;
pub(crate) mod whyfull;
pub(crate) mod world;

use std::io::Write;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

/// The user and group that own nothing.
pub(crate) const NOBODY: u32 = 65534;

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Ends the test early, and says so, where it cannot be run.
#[macro_export]
macro_rules! require_root {
    () => {
        if !$crate::support::is_root() {
            $crate::support::skip("needs root");
            return;
        }
    };
}

/// Says why a test does not run; where none may be left out, that is a failure.
pub(crate) fn skip(reason: &str) {
    let required = std::env::var_os("WHYFULL_TESTS_REQUIRE_ROOT").is_some_and(|v| v == "1");
    assert!(!required, "skipped where nothing may be: {reason}");
    // Past the test harness, which shows what a test prints only if it fails.
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// A directory of the test's own that every user can pass through.
pub(crate) fn temp_dir() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    tempfile::Builder::new()
        .prefix("whyfull-")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir()
        .expect("a temporary directory")
}

/// Runs a tool that a fixture needs.
pub(crate) fn tool(program: &str, args: &[&std::ffi::OsStr]) {
    let out = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A default access control list that lets everybody and one user do anything.
pub(crate) fn default_acl(user: u32) -> Vec<u8> {
    acl(&[
        (0x01, 7, u32::MAX),
        (0x02, 7, user),
        (0x04, 7, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, 7, u32::MAX),
    ])
}

/// An access control list as in an attribute (`include/uapi/linux/posix_acl_xattr.h`), of entries: tag,
/// permissions, and user or group.
pub(crate) fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// What GNU du counts where not all can be read, and what it complains of.
pub(crate) fn du_of_damaged(path: &Path) -> (u64, String) {
    let out =
        Command::new("du").args(["-sx", "--block-size=1"]).arg(path).env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let total = text.split('\t').next().unwrap_or_default().parse().unwrap_or(0);
    (total, String::from_utf8_lossy(&out.stderr).into_owned())
}

/// What GNU du counts: the oracle for every visible byte.
pub(crate) fn du(path: &Path) -> u64 {
    du_with(path, &["-sx", "--block-size=1"], false)
}

/// The same with the eyes of nobody: what du cannot read it leaves out.
pub(crate) fn du_as_nobody(path: &Path) -> u64 {
    du_with(path, &["-sx", "--block-size=1"], true)
}

/// Inodes instead of bytes.
pub(crate) fn du_inodes(path: &Path) -> u64 {
    du_with(path, &["-sx", "--inodes"], false)
}

fn du_with(path: &Path, args: &[&str], as_nobody: bool) -> u64 {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("du");
    command.args(args).arg(path).env("LC_ALL", "C");
    if as_nobody {
        command.uid(NOBODY).gid(NOBODY);
    }
    let out = command.output().expect("du");
    let text = String::from_utf8_lossy(&out.stdout);
    let total = text.split('\t').next().unwrap_or_default().parse();
    total.unwrap_or_else(|_| panic!("du: {text}{}", String::from_utf8_lossy(&out.stderr)))
}
