// SPDX-License-Identifier: MIT OR Apache-2.0

//! No more rights are kept, taken or lent than a step needs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::mount::MsFlags;
use nix::sys::signal::Signal;

use crate::support::filesystem::Filesystem;
use crate::support::report::{only, row};
use crate::support::routes::run;
use crate::support::whyfull::whyfull;
use crate::support::{MIB, NOBODY};

/// A filesystem that takes several threads a while.
fn large() -> Filesystem {
    let filesystem = Filesystem::ext4_with(64 * MIB, &["-N", "40000", "-g", "1024", "-b", "1024"], "");
    for directory in 0..100 {
        let path = filesystem.path().join(directory.to_string());
        fs::create_dir(&path).unwrap();
        for file in 0..100 {
            fs::write(path.join(file.to_string()), "").unwrap();
        }
    }
    filesystem
}

/// The status of each thread of a process that has this name right now.
fn threads(pid: u32, name: &str) -> Vec<String> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let tasks: Vec<_> = tasks.filter_map(|task| Some(task.ok()?.path())).collect();
    let named = format!("Name:\t{name}\n");
    let statuses = tasks.iter().filter_map(|task| fs::read_to_string(task.join("status")).ok());
    let mut found: Vec<String> = statuses.filter(|status| status.starts_with(&named)).collect();
    for task in tasks {
        let children = fs::read_to_string(task.join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().flat_map(|child| threads(child.parse().unwrap(), name)));
    }
    found
}

/// Whether a process that nobody has waited for is a zombie.
fn has_ended(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z")
}

#[test]
fn threads_that_read_tables_are_confined() {
    require_root!();
    let filesystem = large();
    let deadline = Instant::now() + Duration::from_mins(1);
    let mut seen = 0;
    while seen < 10 {
        assert!(Instant::now() < deadline, "only {seen} threads were seen");
        let running =
            whyfull().args(&["--json", "-j", "8", "--method", "table"]).arg(filesystem.path()).start();
        let mut statuses = Vec::new();
        while !has_ended(running.pid()) {
            statuses.extend(threads(running.pid(), "tables"));
        }
        assert!(matches!(running.finish().code(), Some(0 | 1)));
        for status in &statuses {
            for field in ["Seccomp:\t2\n", "NoNewPrivs:\t1\n", "CapEff:\t0000000000000000\n"] {
                assert!(status.contains(field), "{field}{status}");
            }
        }
        seen += statuses.len();
    }
}

/// A confined thread could not end the process by the signal that it was told to.
#[test]
fn ctrl_c_is_not_left_to_a_confined_thread() {
    require_root!();
    let filesystem = large();
    for _ in 0..20 {
        let running = whyfull().args(&["-j", "8", "--method", "table"]).arg(filesystem.path()).start();
        let deadline = Instant::now() + Duration::from_mins(1);
        while threads(running.pid(), "tables").is_empty() && !has_ended(running.pid()) {
            assert!(Instant::now() < deadline);
        }
        running.signal(Signal::SIGINT);
        running.signal(Signal::SIGINT);
        let run = running.finish();
        assert!(run.signal() == Some(Signal::SIGINT) || matches!(run.code(), Some(0 | 1)), "{run:?}");
    }
}

/// In a container whose own filter forbids to set one, the report is the same, and says so.
#[test]
fn where_no_filter_can_be_set_the_report_is_the_same() {
    require_root!();
    let filesystem = Filesystem::ext4(64 * MIB);
    let visible = row(only(&run(filesystem.path(), "table")), "visible");
    let run = |format: &str| {
        let mut command = whyfull().args(&["--method", "table", "-v", "--format", format]).command();
        command.arg(filesystem.path());
        // SAFETY: makes two system calls and allocates nothing.
        unsafe { command.pre_exec(forbid_filters) };
        let output = command.output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        output.stdout
    };
    let report: serde_json::Value = serde_json::from_slice(&run("json")).unwrap();
    assert_eq!(row(only(&report), "visible"), visible);
    assert_eq!(only(&report)["unconfined_note"], "Invalid argument", "{report:#}");
    let text = String::from_utf8(run("text")).unwrap();
    assert!(text.contains("are not confined"), "{text}");
}

fn forbid_filters() -> std::io::Result<()> {
    let step = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let number = u32::try_from(libc::SYS_seccomp).unwrap_or_default();
    let mut filter = [
        step(0x20, 0, 0),
        step(0x15, 1, number),
        step(0x06, 0, libc::SECCOMP_RET_ALLOW),
        step(0x06, 0, libc::SECCOMP_RET_ERRNO | Errno::EINVAL as u32),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies four instructions.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    Errno::result(done).map(drop).map_err(std::io::Error::from)
}

/// The command as a file of its own, on a filesystem on which such files may have rights.
struct Installed {
    home: Filesystem,
    program: PathBuf,
}

impl Installed {
    fn new(mode: u32) -> Self {
        let home = Filesystem::tmpfs_with(1024 * MIB, MsFlags::empty());
        let program = home.path().join("whyfull");
        fs::copy(env!("CARGO_BIN_EXE_whyfull"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        Self { home, program }
    }

    fn by_nobody(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir("/").uid(NOBODY).gid(NOBODY).output().unwrap()
    }

    fn assert_refused(&self, args: &[&str], words: &str) {
        let output = self.by_nobody(args);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(2), &b""[..]),
            "{args:?} {errors}"
        );
        assert!(errors.lines().count() == 1 && errors.contains(words), "{args:?} {errors}");
    }
}

#[test]
fn a_set_user_id_program_refuses_to_run() {
    require_root!();
    for mode in [0o4755, 0o2755, 0o6755] {
        let installed = Installed::new(mode);
        installed.assert_refused(&["/"], "set-user-ID");
        installed.assert_refused(&["--help"], "set-user-ID");
    }
    assert!(Installed::new(0o755).by_nobody(&["--version"]).status.success());
}

/// Capabilities of the file are there to look, not to write where the caller may not.
#[test]
fn capabilities_of_the_file_are_not_lent_for_more_than_looking() {
    require_root!();
    let installed = Installed::new(0o755);
    set_capabilities(&installed.program);
    let home = installed.home.path();
    let secret = home.join("secret");
    fs::create_dir(&secret).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(secret.join("open")).unwrap();
    fs::set_permissions(secret.join("open"), fs::Permissions::from_mode(0o777)).unwrap();
    let target = secret.join("open/report");
    let output = installed.by_nobody(&["--json", home.to_str().unwrap()]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let skipped = only(&report)["skipped"].as_array().unwrap().iter();
    assert_eq!(skipped.filter(|skipped| skipped["kind"] == "directory").count(), 0, "{report:#}");
    installed.assert_refused(&["-o", target.to_str().unwrap(), "/"], "capabilities");
    installed.assert_refused(&["deleted", "-o", target.to_str().unwrap()], "capabilities");
    installed.assert_refused(&["--root", "/", "/"], "capabilities");
    installed.assert_refused(&["recover", "1:1", "/tmp/"], "capabilities");
    installed.assert_refused(&["release", "1:1", "--yes"], "capabilities");
    assert!(!target.exists());
}

/// `CAP_DAC_READ_SEARCH` and `CAP_SYS_PTRACE`, permitted and effective: `struct vfs_ns_cap_data` of
/// include/uapi/linux/capability.h, revision 2.
fn set_capabilities(program: &Path) {
    let capabilities: u32 = 1 << 2 | 1 << 19;
    let words = [0x0200_0001, capabilities, 0, 0, 0];
    let value: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    xattr::set(program, "security.capability", &value).unwrap();
}

/// Variables that libraries read change nothing, whatever is in them.
#[test]
fn the_environment_decides_nothing_but_looks() {
    require_root!();
    let filesystem = Filesystem::ext4(64 * MIB);
    let report = |method| {
        let hostile = [
            ("RUST_MIN_STACK", "9999999999999999"),
            ("RAYON_NUM_THREADS", "70000"),
            ("RUST_BACKTRACE", "full"),
            ("TMPDIR", "/nonexistent"),
            ("PATH", "."),
            ("COLUMNS", "-1"),
            ("LANG", "\u{fffd}=\u{7}"),
            ("TERM", "\u{1b}[2J"),
            ("CLICOLOR", "NaN"),
        ];
        let mut command = whyfull().args(&["--method", method]).arg(filesystem.path());
        for (name, value) in hostile {
            command = command.env(name, Some(value));
        }
        let report = command.report();
        (row(only(&report), "visible"), row(only(&report), "unexplained"))
    };
    let expected = row(only(&run(filesystem.path(), "table")), "visible");
    for method in ["table", "walk"] {
        let (visible, unexplained) = report(method);
        assert_eq!((visible, unexplained), (expected, 0), "{method}");
    }
}
