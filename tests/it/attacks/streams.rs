// SPDX-License-Identifier: MIT OR Apache-2.0

//! Standard output that is closed, full or not open for writing: no report is lost in silence.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};

use crate::support::MIB;
use crate::support::filesystem::Filesystem;
use crate::support::holder::Holder;
use crate::support::whyfull::{Whyfull, whyfull};

/// What may be wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stdout {
    Closed,
    Full,
    ReadOnly,
    OnlyAPath,
    /// A file that may not become larger than nothing.
    Limited,
}

const ALL: [Stdout; 5] = [Stdout::Closed, Stdout::Full, Stdout::ReadOnly, Stdout::OnlyAPath, Stdout::Limited];

fn before_it_runs(command: &mut Command, call: fn() -> io::Result<()>) {
    // SAFETY: each of the calls below is one system call, which allocates nothing.
    unsafe { command.pre_exec(call) };
}

fn run(whyfull: &Whyfull, stdout: Stdout) -> Output {
    let mut command: Command = whyfull.command();
    command.stderr(Stdio::piped());
    match stdout {
        Stdout::Closed => before_it_runs(&mut command, || {
            nix::unistd::close(libc::STDOUT_FILENO)?;
            Ok(())
        }),
        Stdout::Full => drop(command.stdout(File::options().write(true).open("/dev/full").unwrap())),
        Stdout::ReadOnly => drop(command.stdout(File::open("/dev/null").unwrap())),
        Stdout::OnlyAPath => {
            use std::os::unix::fs::OpenOptionsExt;
            let path = File::options().read(true).custom_flags(libc::O_PATH).open("/dev/null").unwrap();
            command.stdout(path);
        }
        Stdout::Limited => {
            command.stdout(tempfile::tempfile().unwrap());
            before_it_runs(&mut command, || Ok(setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?));
        }
    }
    command.spawn().unwrap().wait_with_output().unwrap()
}

/// Status 2, and one line that begins so.
fn is_told(whyfull: &Whyfull, stdout: Stdout) -> String {
    let out = run(whyfull, stdout);
    let errors = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{stdout:?}: {errors}");
    assert!(errors.starts_with("whyfull: standard output: "), "{stdout:?}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{stdout:?}: {errors}");
    errors
}

#[test]
fn help_and_version() {
    for args in [
        ["--help"].as_slice(),
        &["--version"],
        &["recover", "--help"],
        &["release", "-h"],
        &["deleted", "-h"],
    ] {
        for stdout in ALL {
            is_told(&whyfull().args(args), stdout);
        }
    }
}

#[test]
fn reports_and_plans() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let holder = Holder::start_sized("fd", &fs.path().join("file"), 64 << 10);
    for format in [[].as_slice(), &["--json"]] {
        for stdout in ALL {
            is_told(&whyfull().arg(fs.path()).args(format), stdout);
            is_told(&whyfull().arg("deleted").arg(fs.path()).args(format), stdout);
            is_told(&whyfull().args(&["release", "--dry-run", &holder.what()]).args(format), stdout);
        }
    }
}

/// It is done all the same, and that is told.
#[test]
fn what_was_done_is_told() {
    require_root!();
    let (fs, out) = (Filesystem::ext4(16 * MIB), Filesystem::tmpfs(16 * MIB));
    for (round, stdout) in
        [Stdout::Closed, Stdout::Full, Stdout::ReadOnly, Stdout::OnlyAPath].into_iter().enumerate()
    {
        let holder = Holder::start_sized("fd", &fs.path().join("file"), 64 << 10);
        let copy = out.path().join(format!("copy{round}"));
        let errors = is_told(&whyfull().args(&["recover", &holder.what()]).arg(&copy), stdout);
        assert!(errors.contains(&format!("but the file was recovered as {}", copy.display())), "{errors}");
        assert_eq!(copy.metadata().unwrap().len(), holder.size());
        let all = out.beside(format!("all{round}"));
        let errors = is_told(
            &whyfull().args(&["recover", "--all"]).arg(&all).arg("--filesystem").arg(fs.path()),
            stdout,
        );
        assert!(errors.contains("but 1 of 1 files were recovered into"), "{errors}");
        assert!(all.join("whyfull-index.json").exists());
        let errors = is_told(&whyfull().args(&["release", "--yes", &holder.what(), "--json"]), stdout);
        assert!(errors.contains("was released, which freed"), "{errors}");
        let metadata = std::fs::metadata(holder.file()).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::blocks(&metadata), 0);
    }
}

/// A pipe that its other end does not want to be waited for is no reason to lose half of the report.
#[test]
fn a_pipe_that_is_full_for_a_moment() {
    let (mut reader, mut writer) = io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    writer.write_all(&[b'-'; 4000]).unwrap();
    let mut command = whyfull().arg("--help").command();
    let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    std::thread::sleep(Duration::from_millis(200));
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success() && text.len() > 5000, "{text}");
}
