// SPDX-License-Identifier: MIT OR Apache-2.0

//! Every wait has an end: by a limit, or at the second Ctrl-C.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::MIB;
use crate::support::filesystem::Filesystem;
use crate::support::fuse::Fuse;
use crate::support::holder::Holder;
use crate::support::whyfull::{Run, Running, Whyfull, whyfull};

/// Longer than any wait may take, shorter than anybody's patience.
const BOUND: Duration = Duration::from_secs(20);

/// Far beyond what any clock can be set forward by, up to the longest that can be typed.
const FOR_EVER: [&str; 4] =
    ["300000000000y", "584542046090y", "18446744073709551615s", "9223372036854775807s"];

#[test]
fn durations_beyond_the_clock_are_as_good_as_for_ever() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let holder = Holder::start("fd", &fs.path().join("file"));
    for timeout in FOR_EVER {
        let run = |command: &[&str]| whyfull().args(command).args(&["--timeout", timeout]).within(BOUND);
        for method in ["table", "walk"] {
            reports(&run(&["--method", method]).arg(fs.path()));
        }
        reports(&run(&["deleted"]).arg(fs.path()));
        reports(&run(&["release", &holder.what(), "--dry-run"]));
        reports(&run(&["recover", &holder.what()]).arg(fs.path().join(timeout)));
    }
}

/// It says what it has found; here and there a process cannot be looked into.
fn reports(run: &Whyfull) -> Run {
    let run = run.run();
    assert!(matches!(run.code(), Some(0 | 1)) && run.errors().is_empty(), "{run:?}");
    run
}

#[test]
fn durations_that_are_refused() {
    for duration in
        ["0", "0s", "1ns", "999us", "-1s", "18446744073709551616s", "99999999999999999999999y", "1s1"]
    {
        for option in ["--timeout", "--interval"] {
            let run = whyfull().args(&["deleted", option, duration]).run();
            assert_eq!((run.code(), run.text()), (Some(2), ""), "{duration}: {run:?}");
        }
    }
}

/// Also an interval that never ends is left at the first Ctrl-C, with what is known.
#[test]
fn an_interval_without_an_end() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    for interval in FOR_EVER {
        let run = whyfull().args(&["deleted", "--json", "--interval", interval]).arg(fs.path()).within(BOUND);
        let run = run.start();
        wait_until_sleeping(&run);
        run.signal(Signal::SIGINT);
        let run = run.finish();
        assert_eq!(run.signal(), Some(Signal::SIGINT), "{run:?}");
        let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
        assert_eq!(report["interrupted"], true);
    }
}

/// A number of threads that no machine can start.
#[test]
fn more_threads_than_there_can_be() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let _holder = Holder::start("fd", &fs.path().join("file"));
    for threads in ["100000", "18446744073709551615"] {
        reports(&whyfull().args(&["-j", threads]).arg(fs.path()).within(BOUND));
    }
}

/// Where SIGCHLD is ignored the kernel itself takes the children that have ended.
#[test]
fn children_that_nobody_can_wait_for() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let dead = fs.beside("dead");
    let _dead = Fuse::dead(&dead);
    let script = r#"trap '' CHLD; exec "$@" --timeout 300ms"#;
    let run = |path: &Path| reports(&whyfull().after(script).arg(path).within(BOUND));
    assert!(run(fs.path()).text().contains("Nothing is missing"));
    assert!(run(&dead).text().contains("did not answer"));
}

/// A server takes a request and never answers: whoever waits for that cannot even be killed.
fn interrupted_twice(run: &Running) {
    run.signal(Signal::SIGINT);
    // Two signals that are pending together are only one.
    let status = format!("/proc/{}/status", run.pid());
    while fs::read_to_string(&status).is_ok_and(|status| !status.contains("ShdPnd:\t0000000000000000")) {
        thread::yield_now();
    }
    run.signal(Signal::SIGINT);
}

fn ended_at_once(run: &Run, clock: Instant) {
    assert_eq!(run.signal(), Some(Signal::SIGINT), "{run:?}");
    assert!(clock.elapsed() < BOUND / 2, "{run:?}");
}

#[test]
fn a_second_interrupt_while_a_server_keeps_the_request() {
    require_root!();
    for command in [["--method", "walk"].as_slice(), &["-j1"]] {
        let fs = Filesystem::tmpfs(MIB);
        let endless = fs.beside("endless");
        let fuse = Fuse::endless(&endless);
        let run = whyfull().args(command).arg(&endless).within(BOUND).start();
        fuse.wait_until_walked(30);
        fuse.swallow();
        // The threads of the walk and of the probe are stuck by then.
        thread::sleep(Duration::from_millis(200));
        let clock = Instant::now();
        interrupted_twice(&run);
        ended_at_once(&run.finish(), clock);
    }
}

/// A holder whose file is on a server that has gone is passed by; a second Ctrl-C is not needed, nor a first.
#[test]
fn the_scan_for_holders_and_a_server_that_keeps_the_request() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let at = fs.beside("dead");
    let fuse = Fuse::endless(&at);
    let file = File::open(at.join("f0")).unwrap();
    let holder = Holder::start("fd", &fs.path().join("file"));
    fuse.swallow();
    for command in [["deleted"].as_slice(), &["--method", "walk"]] {
        let run = whyfull().args(command).arg(fs.path()).args(&["--timeout", "300ms", "--json"]);
        let run = run.within(BOUND).run();
        assert!(matches!(run.code(), Some(0 | 1)), "{run:?}");
        assert!(run.text().contains(&format!("\"inode\": {}", holder.inode())), "{run:?}");
    }
    assert!(file.as_raw_fd() > 0);
    drop(fuse);
}

/// Whatever it waits for with however long a limit: the first Ctrl-C ends that, with what is known.
#[test]
fn a_first_interrupt_in_every_wait() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let dead = fs.beside("dead");
    let _dead = Fuse::dead(&dead);
    let alive = fs.path().to_owned();
    let holder = Holder::start("fd", &fs.path().join("file"));
    for paths in [vec![&dead], vec![&alive, &dead]] {
        for command in [["--method", "walk"].as_slice(), &["deleted"]] {
            let run = whyfull().args(command).args(&["--timeout", "1h", "--json"]).within(BOUND);
            let run = paths.iter().fold(run, Whyfull::arg).start();
            thread::sleep(Duration::from_millis(500));
            let clock = Instant::now();
            run.signal(Signal::SIGINT);
            let run = run.finish();
            ended_at_once(&run, clock);
            let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
            assert_eq!(report["interrupted"], true, "{run:?}");
            let is_held = run.text().contains(&format!("\"inode\": {}", holder.inode()));
            assert_eq!(is_held, paths.len() > 1, "{run:?}");
        }
    }
}

#[test]
fn a_second_interrupt_while_a_copy_is_never_read() {
    require_root!();
    let out = Filesystem::tmpfs(MIB);
    let at = out.beside("dead");
    let fuse = Fuse::endless(&at);
    let path = at.join("f0");
    drop(File::open(&path).unwrap());
    let file = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let what = format!("{}:{}", std::process::id(), file.as_raw_fd());
    let run = whyfull().args(&["recover", &what]).arg(out.path()).args(&["--timeout", "1h"]);
    let run = run.within(BOUND).start();
    thread::sleep(Duration::from_millis(500));
    let clock = Instant::now();
    interrupted_twice(&run);
    ended_at_once(&run.finish(), clock);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "nothing was left behind");
    drop(fuse);
    drop(file);
}

/// The main thread of the process that works, or the only one, sleeps in a system call.
fn wait_until_sleeping(run: &Running) {
    let sleeps = |pid: u32| {
        let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        // clock_nanosleep(2) has the number 230 on x86-64 and 115 on 64-bit ARM.
        let number = call.split(' ').next().and_then(|number| number.parse::<i64>().ok());
        number == Some(nix::libc::SYS_clock_nanosleep)
    };
    let clock = Instant::now();
    while !run.worker().is_some_and(sleeps) {
        assert!(clock.elapsed() < BOUND, "it never waits");
        thread::yield_now();
    }
}
