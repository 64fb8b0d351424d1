// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs that hold what has no name any more.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use super::NOBODY;
use super::child::{reachable, tie_to_test};

/// A running holder, killed when this goes out of scope.
pub(crate) struct Holder {
    child: Child,
    stdout: BufReader<ChildStdout>,
    said: HashMap<String, String>,
}

impl Holder {
    /// Returns once the situation exists.
    pub(crate) fn start(situation: &str, path: &Path) -> Self {
        Self::start_with(situation, path, None, false)
    }

    pub(crate) fn start_sized(situation: &str, path: &Path, size: u64) -> Self {
        Self::start_with(situation, path, Some(size), false)
    }

    pub(crate) fn start_as_nobody(situation: &str, path: &Path) -> Self {
        Self::start_with(situation, path, None, true)
    }

    /// In a mount namespace of its own, with copies of all mounts.
    pub(crate) fn start_unshared(situation: &str, path: &Path) -> Self {
        let mut command = Command::new("unshare");
        command.arg("--mount").arg(program()).arg(situation).arg(path);
        Self::run(situation, command)
    }

    /// As a program of another name; by nobody, if wanted.
    pub(crate) fn start_program(program: &Path, situation: &str, path: &Path, as_nobody: bool) -> Self {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        command.arg(situation).arg(path);
        if as_nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        Self::run(situation, command)
    }

    /// However `command` starts it, with these arguments.
    pub(crate) fn start_in(command: &[&str], args: &[&Path]) -> Self {
        let mut started = Command::new(command[0]);
        started.args(&command[1..]).args(args);
        Self::run(command[0], started)
    }

    fn start_with(situation: &str, path: &Path, size: Option<u64>, as_nobody: bool) -> Self {
        use std::os::unix::process::CommandExt;
        static PROGRAM: OnceLock<File> = OnceLock::new();
        let mut command = Command::new(reachable(&program(), &PROGRAM));
        command.arg0("holder").arg(situation).arg(path);
        command.args(size.map(|size| size.to_string()));
        if as_nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        Self::run(situation, command)
    }

    fn run(situation: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // A working directory in the test's filesystem would keep it busy.
        command.current_dir("/");
        tie_to_test(&mut command, None);
        let mut child = command.spawn().expect("the holder starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let pairs = line.strip_prefix("ready ").map(|rest| {
            let pairs = rest.split_whitespace().filter_map(|p| p.split_once('='));
            pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
        });
        let Some(said) = pairs else {
            drop(child.kill());
            panic!("holder {situation}: {line:?}, {:?}", child.wait());
        };
        Self { child, stdout, said }
    }

    /// Tells those that act on demand to do it, and waits until it is done.
    fn demand(&mut self, byte: u8) {
        self.child.stdin.as_mut().unwrap().write_all(&[byte]).unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
    }

    /// Writes as much again.
    pub(crate) fn write(&mut self) {
        self.demand(b'w');
    }

    /// Closes its descriptor and lives on.
    pub(crate) fn close(&mut self) {
        self.demand(b'\n');
    }

    /// What `recover` and `release` call its descriptor.
    pub(crate) fn what(&self) -> String {
        format!("{}:{}", self.pid(), self.fd())
    }

    /// The file itself, through /proc.
    pub(crate) fn file(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", self.pid(), self.fd()).into()
    }

    /// Ends its input and waits: whether it found everything as it had left it.
    pub(crate) fn finish(mut self) -> bool {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().success()
    }

    fn number(&self, key: &str) -> u64 {
        let text = &self.said[key];
        text.parse().unwrap_or_else(|_| panic!("holder: {key}={text}"))
    }

    fn numbers(&self, key: &str) -> Vec<u64> {
        let items = self.said[key].split(',').filter(|item| !item.is_empty());
        items.map(|item| item.parse().unwrap()).collect()
    }

    pub(crate) fn pid(&self) -> u64 {
        self.number("pid")
    }

    pub(crate) fn tid(&self) -> u64 {
        self.number("tid")
    }

    pub(crate) fn fd(&self) -> u64 {
        self.number("fd")
    }

    pub(crate) fn fds(&self) -> Vec<u64> {
        self.numbers("fds")
    }

    pub(crate) fn children(&self) -> Vec<u64> {
        self.numbers("children")
    }

    pub(crate) fn inode(&self) -> u64 {
        self.number("ino")
    }

    /// Allocated bytes, `st_blocks * 512`.
    pub(crate) fn bytes(&self) -> u64 {
        self.number("bytes")
    }

    /// Apparent size, `st_size`.
    pub(crate) fn size(&self) -> u64 {
        self.number("size")
    }

    pub(crate) fn device(&self) -> &str {
        &self.said["dev"]
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Cargo builds examples together with the tests, beside them.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    profile.join("examples").join("holder")
}
