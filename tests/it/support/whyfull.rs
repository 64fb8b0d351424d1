// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command under test.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::NOBODY;
use super::child::{Collected, reachable, terminal, tie_to_test, wait};

/// Far more than any run takes; only a hang gets there.
const PATIENCE: Duration = Duration::from_mins(2);

/// `whyfull` in a known environment: UTF-8, no colour, nothing from the caller.
pub(crate) fn whyfull() -> Whyfull {
    Whyfull {
        args: vec![],
        env: vec![("LC_ALL".into(), "C.UTF-8".into())],
        nobody: false,
        pid_namespace: false,
        script: None,
        root: None,
        open_files: None,
        columns: None,
        patience: PATIENCE,
    }
}

#[derive(Clone)]
pub(crate) struct Whyfull {
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    nobody: bool,
    pid_namespace: bool,
    script: Option<&'static str>,
    root: Option<PathBuf>,
    open_files: Option<u64>,
    columns: Option<u16>,
    patience: Duration,
}

impl Whyfull {
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(OsString::from));
        self
    }

    /// A variable without a value is taken out of the environment.
    pub(crate) fn env(mut self, name: &str, value: Option<&str>) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.extend(value.map(|value| (name.into(), value.into())));
        self
    }

    /// As a user who owns nothing and has no privilege.
    pub(crate) fn by_nobody(mut self) -> Self {
        self.nobody = true;
        self
    }

    /// With no process to inspect but its own: nothing there can be refused.
    pub(crate) fn in_pid_namespace(mut self) -> Self {
        self.pid_namespace = true;
        self
    }

    /// In a pid namespace that `script` prepares: `$0` is the holder program, and
    /// `"$@"` runs the command. Whatever it starts ends with it.
    pub(crate) fn after(mut self, script: &'static str) -> Self {
        self.pid_namespace = true;
        self.script = Some(script);
        self
    }

    /// As `/whyfull` of another root directory.
    pub(crate) fn chroot(mut self, root: &Path) -> Self {
        self.root = Some(root.to_owned());
        self
    }

    pub(crate) fn open_files(mut self, limit: u64) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Standard output is a terminal; standard error is still a pipe.
    pub(crate) fn on_terminal(mut self, columns: u16) -> Self {
        self.columns = Some(columns);
        self
    }

    /// A run that takes longer is killed, and the test fails.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.patience = limit;
        self
    }

    /// The command itself, for what the methods here do not cover.
    pub(crate) fn command(&self) -> Command {
        use std::os::unix::process::CommandExt;
        static PROGRAM: OnceLock<File> = OnceLock::new();
        let path = Path::new(env!("CARGO_BIN_EXE_whyfull"));
        let nobody = NOBODY.to_string();
        let mut command = if self.pid_namespace {
            let mut command = Command::new("unshare");
            command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
            if self.nobody {
                command.args(["setpriv", "--clear-groups", "--reuid", &nobody]);
                command.args(["--regid", &nobody]);
            }
            if let Some(script) = self.script {
                command.args(["sh", "-c", script]);
                command.arg(super::holder::program());
            }
            command.arg(path);
            command
        } else if let Some(root) = &self.root {
            let mut command = Command::new("chroot");
            command.arg(root).arg("/whyfull");
            command
        } else {
            let mut command = Command::new(reachable(path, &PROGRAM));
            command.arg0("whyfull");
            if self.nobody {
                // Supplementary groups go too: std drops them with a root's uid.
                command.uid(NOBODY).gid(NOBODY);
            }
            command
        };
        tie_to_test(&mut command, self.open_files);
        command.args(&self.args).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self) -> Running {
        let mut command = self.command();
        command.stderr(Stdio::piped());
        let stdout = if let Some(columns) = self.columns {
            let (master, slave) = terminal(columns);
            command.stdout(slave);
            Some(master)
        } else {
            command.stdout(Stdio::piped());
            None
        };
        let mut child = command.spawn().expect("whyfull starts");
        // The command keeps the terminal's other end open until it is dropped.
        drop(command);
        let pipe = child.stdout.take();
        let stdout = stdout.map_or_else(|| Collected::new(pipe.unwrap()), Collected::new);
        let stderr = Collected::new(child.stderr.take().unwrap());
        Running { child, stdout, stderr, patience: self.patience }
    }

    pub(crate) fn run(&self) -> Run {
        self.start().finish()
    }

    /// Runs it, which has to work, and returns what it says in JSON.
    pub(crate) fn done(&self) -> Value {
        let run = self.clone().arg("--json").run();
        assert_eq!((run.code(), run.errors()), (Some(0), ""), "{run:?}");
        serde_json::from_slice(&run.stdout).unwrap()
    }

    /// Runs it, which has to be refused in one line with these words in it.
    pub(crate) fn refused(&self, words: &str) -> Run {
        let run = self.run();
        run.assert_refused();
        assert!(run.errors().contains(words), "{words}: {run:?}");
        run
    }

    /// The JSON report, checked for what must hold in every one of them.
    pub(crate) fn report(&self) -> Value {
        let run = self.clone().arg("--json").run();
        let code = run.status.code();
        assert!(matches!(code, Some(0 | 1)), "{run:?}");
        let report = run.json();
        assert_eq!(code == Some(0), report["complete"] == true, "{run:?}");
        report
    }
}

/// A run that goes on; left alone, it is killed with the test.
pub(crate) struct Running {
    child: Child,
    stdout: Collected,
    stderr: Collected,
    patience: Duration,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process that does the work; `None` when it has ended, or does not run yet.
    pub(crate) fn worker(&self) -> Option<u32> {
        let children = format!("/proc/{pid}/task/{pid}/children", pid = self.pid());
        std::fs::read_to_string(children).ok()?.split(' ').next()?.parse().ok()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // The child is not reaped before `finish`: the number is still its own.
        send(self.pid(), signal).unwrap();
    }

    pub(crate) fn signal_worker(&self, signal: Signal) {
        let _ = self.worker().map(|worker| send(worker, signal));
    }

    pub(crate) fn finish(mut self) -> Run {
        let status = wait(&mut self.child, self.patience);
        let Some(status) = status else {
            // Not waited for: a process stuck in the kernel would stop the test.
            drop(self.child.kill());
            panic!("still running after {:?}", self.patience);
        };
        Run { status, stdout: self.stdout.bytes(), stderr: self.stderr.bytes() }
    }
}

fn send(pid: u32, signal: Signal) -> nix::Result<()> {
    kill(Pid::from_raw(pid.cast_signed()), signal)
}

/// A run that has ended.
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Run {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(crate) fn signal(&self) -> Option<Signal> {
        let number = self.status.signal()?;
        Signal::try_from(number).ok()
    }

    /// Checks for one line on standard error, nothing on standard output, status 2.
    pub(crate) fn assert_refused(&self) {
        assert_eq!((self.code(), self.text()), (Some(2), ""), "{self:?}");
        assert!(self.errors().ends_with('\n') && self.errors().lines().count() == 1, "{self:?}");
    }

    /// Standard output as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text on standard output")
    }

    /// Standard error as text.
    pub(crate) fn errors(&self) -> &str {
        std::str::from_utf8(&self.stderr).expect("text on standard error")
    }

    pub(crate) fn json(&self) -> Value {
        let report = serde_json::from_slice(&self.stdout);
        let report = report.unwrap_or_else(|error| panic!("{error}: {self:?}"));
        super::report::check(&report);
        report
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (out, err) = (&self.stdout, &self.stderr);
        let (out, err) = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
        write!(f, "{}\n-- stdout\n{out}\n-- stderr\n{err}", self.status)
    }
}
