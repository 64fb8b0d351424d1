// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the kernel can be made to hold, until the guard goes.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::libc;

use super::child::tie_to_test;

/// A file whose blocks are all written; its inode number.
pub(crate) fn file(path: &Path, size: u64) -> u64 {
    let mut file = File::create_new(path).unwrap();
    file.write_all(&vec![0x55; usize::try_from(size).unwrap()]).unwrap();
    file.sync_all().unwrap();
    file.metadata().unwrap().ino()
}

/// A shell in a mount namespace of its own, after it has run `script` there with `$1`, `$2`, ...
pub(crate) struct Namespace(Child);

impl Namespace {
    pub(crate) fn new(unshare: &[&str], script: &str, args: &[&Path]) -> Self {
        Self::made_by(Command::new("unshare"), unshare, script, args)
    }

    /// Made by nobody, who is root in a user namespace of his own.
    pub(crate) fn by_nobody(script: &str, args: &[&Path]) -> Self {
        let mut command = Command::new("setpriv");
        let nobody = super::NOBODY.to_string();
        command.args(["--clear-groups", "--reuid", &nobody, "--regid", &nobody, "unshare"]);
        Self::made_by(command, &["--mount", "--user", "--map-root-user"], script, args)
    }

    fn made_by(mut command: Command, unshare: &[&str], script: &str, args: &[&Path]) -> Self {
        command.args(unshare).args(["--propagation", "private", "sh", "-ec"]);
        command.arg(format!("{script}\necho ready; read -r _")).arg("sh").args(args);
        tie_to_test(&mut command, None);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        assert_eq!(&ready, b"ready\n");
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An entry of `binfmt_misc` that keeps its interpreter open, and one that does not: registered in a user
/// namespace, whose entries are its own.
pub(crate) fn interpreters(kept: &Path, found: &Path, binfmt_misc: &Path) -> Namespace {
    let script = r#"mount -t binfmt_misc none "$3"
        echo ":why-kept:M::\\x7fwhy1::$1:F" >"$3/register"
        echo ":why-found:M::\\x7fwhy2::$2:" >"$3/register""#;
    let unshare = ["--mount", "--user", "--map-root-user"];
    Namespace::new(&unshare, script, &[kept, found, binfmt_misc])
}

/// An event of tracefs, which all share; removed at the end.
pub(crate) struct Probe {
    events: PathBuf,
    pub(crate) name: String,
}

impl Probe {
    pub(crate) fn new(tracefs: &Path, file: &Path) -> Self {
        let (events, name) = (tracefs.join("uprobe_events"), format!("whyfull_{}/probe", std::process::id()));
        let probe = Self { events, name };
        probe.write(&format!("p:{} {}:0x10", probe.name, file.display()));
        probe
    }

    fn write(&self, line: &str) {
        let mut events = OpenOptions::new().append(true).open(&self.events).unwrap();
        events.write_all(line.as_bytes()).unwrap();
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.write(&format!("-:{}", self.name));
    }
}

/// All that is mounted at `root` and below, once more, where nobody sees it: `open_tree(2)`.
pub(crate) fn clone_tree(root: &Path) -> OwnedFd {
    /// include/uapi/linux/mount.h.
    const OPEN_TREE_CLONE: i32 = 1;
    let root = CString::new(root.as_os_str().as_encoded_bytes()).unwrap();
    let flags = OPEN_TREE_CLONE | libc::AT_RECURSIVE | libc::O_CLOEXEC;
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, root.as_ptr(), flags) };
    let fd = i32::try_from(Errno::result(fd).unwrap()).unwrap();
    // SAFETY: the descriptor is new and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
