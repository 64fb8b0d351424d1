// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mounts that come, and filesystems that die, while names are walked: the run ends, and says what it left out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::filesystem::{Filesystem, bind, mount_tmpfs};
use crate::support::fuse::Fuse;
use crate::support::report::{list, only, row, skips};
use crate::support::whyfull::{Running, whyfull};
use crate::support::{MIB, du, tool};

/// Longer than any of these runs may take, shorter than anybody's patience.
const BOUND: Duration = Duration::from_secs(20);

/// An ext4 whose first directory takes a while to read: so much that what is done then is done before the walk
/// comes to the others.
struct Slow {
    fs: Filesystem,
}

/// How many of those others there are.
const LATER: usize = 12;

impl Slow {
    fn new() -> Self {
        let fs = Filesystem::ext4_with(128 * MIB, &["-N", "70000"], "");
        let slow = Self { fs };
        fs::create_dir(slow.path("first")).unwrap();
        (0..60_000).for_each(|index| drop(File::create_new(slow.path(&format!("first/{index}"))).unwrap()));
        for later in 0..LATER {
            let later = slow.path(&format!("later{later}"));
            fs::create_dir_all(later.join("deep/deeper")).unwrap();
            fs::write(later.join("file"), vec![1; 40_000]).unwrap();
            fs::write(later.join("deep/deeper/file"), vec![1; 70_000]).unwrap();
        }
        fs::write(slow.path("later_file"), vec![1; 90_000]).unwrap();
        slow
    }

    fn path(&self, name: &str) -> PathBuf {
        self.fs.path().join(name)
    }

    /// Does something while the walk is in the first directory; returns what the walk then reports.
    fn while_it_is_walked(&self, threads: &str, act: impl FnOnce()) -> Value {
        let run = whyfull().arg(self.fs.path()).args(&["--json", "--method", "walk", "-j", threads]);
        let run = run.args(&["--timeout", "1s"]).within(BOUND).start();
        wait_until_open(&run, &self.path("first"));
        act();
        let run = run.finish();
        assert!(matches!(run.code(), Some(0 | 1)), "{run:?}");
        run.json()
    }
}

/// Waits until the command, or the process that works for it, has `path` open.
fn wait_until_open(run: &Running, path: &Path) {
    let pid = run.pid();
    let begun = Instant::now();
    while begun.elapsed() < BOUND {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for process in children.split_whitespace().chain([pid.to_string().as_str()]) {
            let descriptors = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
            if descriptors.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|link| link == path) {
                return;
            }
        }
    }
    panic!("{}: nobody opens it", path.display());
}

/// The walk counts what was there when it began, and does not ask who has come.
#[test]
fn mounts_that_never_answer_come_during_the_walk() {
    require_root!();
    let slow = Slow::new();
    let before = i128::from(du(slow.fs.path()));
    for threads in ["1", "3"] {
        let mut mounts = Vec::new();
        let report = slow.while_it_is_walked(threads, || {
            mounts.extend((0..LATER).map(|later| Fuse::dead(&slow.path(&format!("later{later}")))));
        });
        assert_eq!(row(only(&report), "visible"), before, "{report:#}");
        assert_eq!(report["complete"], true, "{report:#}");
    }
}

#[test]
fn mounts_that_take_requests_come_during_the_walk() {
    require_root!();
    let slow = Slow::new();
    let before = i128::from(du(slow.fs.path()));
    let mut mounts = Vec::new();
    let report = slow.while_it_is_walked("1", || {
        // Deeper than the directories that the walk opens next, and on one of them.
        for place in ["later3/deep", "later4/deep/deeper", "later5"] {
            let mount = Fuse::endless(&slow.path(place));
            mount.swallow();
            mounts.push(mount);
        }
    });
    assert_eq!(row(only(&report), "visible"), before, "{report:#}");
    assert_eq!(report["complete"], true, "{report:#}");
}

#[test]
fn mounts_on_files_and_directories_come_during_the_walk() {
    require_root!();
    let slow = Slow::new();
    let before = i128::from(du(slow.fs.path()));
    let report = slow.while_it_is_walked("1", || {
        mount_tmpfs(&slow.path("later3"), MIB, nix::mount::MsFlags::empty());
        fs::write(slow.path("later3/other"), vec![1; 300_000]).unwrap();
        bind(Path::new("/etc"), &slow.path("later4/deep"));
        bind(Path::new("/etc/passwd"), &slow.path("later5/file"));
        bind(Path::new("/etc/passwd"), &slow.path("later_file"));
    });
    assert_eq!(row(only(&report), "visible"), before, "{report:#}");
    assert_eq!(report["complete"], true, "{report:#}");
}

/// Without the right to look beneath, that is said.
#[test]
fn mounts_come_during_a_walk_without_rights() {
    require_root!();
    let slow = Slow::new();
    tool("chmod", &["-R".as_ref(), "a+rX".as_ref(), slow.fs.path().as_os_str()]);
    let run = whyfull().arg(slow.fs.path()).args(&["--json", "-j", "1", "--timeout", "1s"]).by_nobody();
    let run = run.within(BOUND).start();
    wait_until_open(&run, &slow.path("first"));
    let _dead = Fuse::dead(&slow.path("later3"));
    let run = run.finish();
    assert_eq!(run.code(), Some(1), "{run:?}");
    let report = run.json();
    let skipped = skips(only(&report), "mount");
    assert_eq!(skipped.len(), 1, "{report:#}");
    assert_eq!(skipped[0]["path"], slow.path("later3").to_str().unwrap());
}

/// What becomes of a server while its filesystem is walked.
#[derive(Clone, Copy)]
enum Fate {
    /// Requests are not taken any more.
    Stalls,
    /// They are taken and not answered: whoever waits for that cannot be killed.
    Swallows,
}

/// A run on a FUSE filesystem whose server goes when so many directories have been read.
fn dying(fuse: &mut Fuse, at: &Path, timeout: &str, fate: Fate, args: &[&str]) -> Running {
    let run = whyfull().arg(at).args(&["--json", "--timeout", timeout]).args(args).within(BOUND).start();
    fuse.wait_until_walked(50);
    match fate {
        Fate::Stalls => fuse.stall(),
        Fate::Swallows => fuse.swallow(),
    }
    run
}

#[test]
fn a_filesystem_that_dies_while_it_is_walked() {
    require_root!();
    for fate in [Fate::Stalls, Fate::Swallows] {
        for threads in [&["-j", "1"][..], &["-j", "4"], &[]] {
            let fs = Filesystem::tmpfs(MIB);
            let at = fs.beside("dying");
            let mut fuse = Fuse::endless(&at);
            let run = dying(&mut fuse, &at, "500ms", fate, threads).finish();
            assert_eq!(run.code(), Some(1), "{run:?}");
            let report = run.json();
            let skipped = skips(only(&report), "directory");
            assert!(skipped.iter().any(|skip| skip["errno"] == "ETIMEDOUT"), "{report:#}");
            // What is known is told, and which directory was the last.
            assert!(row(only(&report), "visible") > 0, "{report:#}");
            let inside = |skip: &Value| skip["path"].as_str().unwrap().starts_with(at.to_str().unwrap());
            assert!(skipped.iter().all(|skip| inside(skip)), "{report:#}");
            assert_eq!(skips(only(&report), "filesystem")[0]["errno"], "ETIMEDOUT", "{report:#}");
        }
    }
}

#[test]
fn an_interrupt_while_a_walk_waits() {
    require_root!();
    for fate in [Fate::Stalls, Fate::Swallows] {
        let fs = Filesystem::tmpfs(MIB);
        let at = fs.beside("dying");
        let mut fuse = Fuse::endless(&at);
        let run = dying(&mut fuse, &at, "1h", fate, &[]);
        sleep(Duration::from_millis(500));
        run.signal(Signal::SIGINT);
        let run = run.finish();
        assert_eq!(run.signal(), Some(Signal::SIGINT), "{run:?}");
        let report = run.json();
        assert_eq!(report["interrupted"], true, "{report:#}");
        assert!(row(only(&report), "visible") > 0, "{report:#}");
    }
}

#[test]
fn a_second_interrupt_ends_at_once() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let at = fs.beside("dying");
    let mut fuse = Fuse::endless(&at);
    let run = dying(&mut fuse, &at, "1h", Fate::Swallows, &[]);
    run.signal(Signal::SIGINT);
    sleep(Duration::from_millis(50));
    let begun = Instant::now();
    run.signal(Signal::SIGINT);
    let run = run.finish();
    assert_eq!(run.signal(), Some(Signal::SIGINT), "{run:?}");
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
}

/// It answers whoever looks ahead, and not the one who comes after.
#[test]
fn several_that_die_are_several_rows() {
    require_root!();
    let fs = Filesystem::tmpfs(MIB);
    let places: Vec<PathBuf> = (0..8).map(|number| fs.beside(format!("dead{number}"))).collect();
    let _mounts: Vec<Fuse> = places.iter().map(|place| Fuse::dead(place)).collect();
    let mut run = whyfull().args(&["--json", "--timeout", "1s"]).within(BOUND);
    for place in &places {
        run = run.arg(place);
    }
    let run = run.run();
    assert_eq!(run.code(), Some(1), "{run:?}");
    assert_eq!(list(&run.json()["filesystems"]).len(), places.len());
}
