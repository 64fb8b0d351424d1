// SPDX-License-Identifier: MIT OR Apache-2.0

//! `-o FILE`: what another user has put where root's report goes.

use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::filesystem::Filesystem;
use crate::support::fuse::Fuse;
use crate::support::whyfull::{Run, Whyfull, whyfull};
use crate::support::{MIB, NOBODY};

/// Longer than any of these takes, shorter than anybody's patience.
const BOUND: Duration = Duration::from_secs(20);

/// A small filesystem to look at, with a directory like /tmp, one of another user's, and one of root's.
struct Place {
    fs: Filesystem,
    sticky: PathBuf,
    foreign: PathBuf,
    roots: PathBuf,
}

impl Place {
    fn new() -> Self {
        let fs = Filesystem::ext4(16 * MIB);
        let [sticky, foreign, roots] = ["sticky", "foreign", "roots"].map(|name| {
            let path = fs.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        });
        fs::set_permissions(&sticky, Permissions::from_mode(0o1777)).unwrap();
        give(&foreign);
        Self { fs, sticky, foreign, roots }
    }

    fn report_to(&self, output: &Path) -> Whyfull {
        let run = whyfull().args(&["deleted", "--json", "--timeout", "500ms"]).arg(self.fs.path());
        run.arg("-o").arg(output).within(BOUND)
    }

    fn reported(&self, output: &Path) -> fs::Metadata {
        let run = self.report_to(output).run();
        assert!(matches!(run.code(), Some(0 | 1)), "{run:?}");
        let text = fs::read(output).unwrap();
        assert_eq!(text.first(), Some(&b'{'), "{}", output.display());
        output.symlink_metadata().unwrap()
    }
}

/// Makes it nobody's.
fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_planted_file_gives_nothing_but_its_name() {
    require_root!();
    let place = Place::new();
    for directory in [&place.sticky, &place.foreign, &place.roots] {
        for planted in [0o6777, 0o666, 0o600, 0o000] {
            let report = directory.join("report");
            fs::write(&report, "").unwrap();
            give(&report);
            fs::set_permissions(&report, Permissions::from_mode(planted)).unwrap();
            let old = File::options().read(true).open(&report).unwrap();
            let new = place.reported(&report);
            assert_eq!((new.mode() & 0o7777, new.uid(), new.gid()), (0o644, 0, 0));
            assert_eq!(old.metadata().unwrap().len(), 0, "who has the old one open keeps that");
            fs::remove_file(&report).unwrap();
        }
    }
}

#[test]
fn the_callers_own_file_keeps_its_mode_but_no_more() {
    require_root!();
    let place = Place::new();
    let keeps = |directory: &Path, before: u32| {
        let report = directory.join("report");
        fs::write(&report, "").unwrap();
        chown(&report, None, Some(7)).unwrap();
        fs::set_permissions(&report, Permissions::from_mode(before)).unwrap();
        let new = place.reported(&report);
        assert_eq!(new.gid(), 7);
        new.mode() & 0o7777
    };
    assert_eq!(keeps(&place.roots, 0o640), 0o640);
    assert_eq!(keeps(&place.roots, 0o6770), 0o770);
    // There somebody may have linked any file of root's.
    for directory in [&place.sticky, &place.foreign] {
        assert_eq!(keeps(directory, 0o6777), 0o644);
        assert_eq!(keeps(directory, 0o600), 0o600);
    }
}

#[test]
fn a_directory_gives_nobody_rights() {
    require_root!();
    let place = Place::new();
    // Set-group-ID, and a default access control list: user and group 65534 may do anything.
    fs::set_permissions(&place.foreign, Permissions::from_mode(0o2777)).unwrap();
    for directory in [&place.foreign, &place.roots] {
        let acl = crate::support::default_acl(NOBODY);
        xattr::set(directory, "system.posix_acl_default", &acl).unwrap();
        let report = directory.join("report");
        let new = place.reported(&report);
        assert_eq!((new.mode() & 0o7777, new.uid(), new.gid()), (0o644, 0, 0));
        assert_eq!(xattr::get(&report, "system.posix_acl_access").unwrap(), None);
    }
}

#[test]
fn no_link_of_another_user_is_followed() {
    require_root!();
    let place = Place::new();
    let target = place.roots.join("target");
    fs::write(&target, "root's").unwrap();
    let refused = |output: &Path| {
        place.report_to(output).refused("is a symbolic link");
        assert_eq!(fs::read(&target).unwrap(), b"root's");
        assert_eq!(names(&place.roots), ["target"], "{}", output.display());
    };
    for directory in [&place.sticky, &place.foreign] {
        let links = [
            ("last", target.clone()),
            ("dangling", place.roots.join("new")),
            ("directory", place.roots.clone()),
            ("null", "/dev/null".into()),
        ];
        for (name, leads_to) in links {
            // A link that looks like root's may have been moved there.
            for is_own in [false, true] {
                let link = directory.join(name);
                symlink(&leads_to, &link).unwrap();
                if !is_own {
                    give(&link);
                }
                refused(&link);
                refused(&link.join(""));
                refused(&link.join("new"));
                refused(&link.join("../roots/new"));
                fs::remove_file(&link).unwrap();
            }
        }
    }
    // What belongs to another user stays so below it, too.
    let below = place.foreign.join("roots");
    fs::create_dir(&below).unwrap();
    symlink(&place.roots, below.join("link")).unwrap();
    refused(&below.join("link/new"));
    // Not through a link of root's to one of another user.
    symlink(&place.roots, place.foreign.join("link")).unwrap();
    symlink(place.foreign.join("link"), place.fs.path().join("way")).unwrap();
    refused(&place.fs.path().join("way/new"));
}

#[test]
fn links_of_root_in_directories_of_root_are_followed() {
    require_root!();
    let place = Place::new();
    let backup = place.fs.path().join("backup");
    symlink(&place.roots, &backup).unwrap();
    place.reported(&backup.join("report"));
    let link = place.fs.path().join("link");
    symlink("roots/other", &link).unwrap();
    let run = place.report_to(&link).run();
    assert!(matches!(run.code(), Some(0 | 1)), "{run:?}");
    assert!(link.is_symlink() && place.roots.join("other").is_file());
    // Also where the end of the way is another user's.
    symlink(&place.foreign, place.fs.path().join("theirs")).unwrap();
    place.reported(&place.fs.path().join("theirs/report"));
}

#[test]
fn a_fifo_of_another_user_is_not_written_to() {
    require_root!();
    let place = Place::new();
    for directory in [&place.sticky, &place.foreign] {
        let fifo = directory.join("fifo");
        mkfifo(&fifo, Mode::from_bits_truncate(0o666)).unwrap();
        give(&fifo);
        let _reader = File::options().read(true).write(true).open(&fifo).unwrap();
        place.report_to(&fifo).refused("somebody else could have put it there");
        assert!(fifo.metadata().unwrap().file_type().is_fifo());
    }
}

#[test]
fn a_fifo_without_a_reader_ends_after_the_timeout() {
    require_root!();
    let place = Place::new();
    let fifo = place.roots.join("fifo");
    mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    let clock = Instant::now();
    place.report_to(&fifo).refused("nobody has opened it for reading within 500ms");
    assert!(clock.elapsed() < Duration::from_secs(10));
    // One that comes in time gets it all.
    let run = place.report_to(&fifo).start();
    let text = fs::read_to_string(&fifo).unwrap();
    assert!(matches!(run.finish().code(), Some(0 | 1)));
    let _: serde_json::Value = serde_json::from_str(&text).unwrap();
}

#[test]
fn descriptors_of_the_caller_are_written_to() {
    require_root!();
    let place = Place::new();
    let script = |script: &str| {
        let mut command = std::process::Command::new("bash");
        command
            .arg("-c")
            .arg(format!("cd \"$1\"; w() {{ \"$2\" deleted --json \"$1\" -o \"$3\"; }}; {script}"));
        command.arg("bash").arg(place.fs.path()).arg(env!("CARGO_BIN_EXE_whyfull"));
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    let run = |command: &str| script(&command.replace("w ", "w \"$1\" \"$2\" "));
    // Process substitution, and a descriptor that is appended to.
    let (code, out, errors) = run("w >(cat >to; echo x >done) && until [ -e done ]; do :; done; cat to");
    assert!(code == Some(0) && out.starts_with('{'), "{out}{errors}");
    let (code, out, errors) = run("echo before >log; w /dev/fd/7 7>>log; cat log");
    assert!(code == Some(0) && out.starts_with("before\n{"), "{out}{errors}");
    let (code, out, errors) = run("echo before >log; w /dev/stdout >>log; cat log");
    assert!(code == Some(0) && out.starts_with("before\n{"), "{out}{errors}");
    // Those that are not there, or are the command's own.
    for command in
        ["w /dev/stdout >&-", "w /dev/fd/1 >&-", "w /dev/fd/0 <&-", "w /proc/self/fd/1 1</dev/null"]
    {
        let (code, out, errors) = run(command);
        assert_eq!((code, out.as_str(), errors.lines().count()), (Some(2), "", 1), "{command}: {errors}");
    }
    for number in 3..20 {
        let (code, out, errors) = run(&format!("w /dev/fd/{number} {number}>&-"));
        assert_eq!((code, out.as_str(), errors.lines().count()), (Some(2), "", 1), "{number}: {errors}");
    }
}

/// Wherever a signal comes, there is the old file or the new one, and nothing else.
#[test]
fn no_signal_leaves_anything_behind() {
    require_root!();
    let place = Place::new();
    let report = place.roots.join("report");
    fs::write(&report, "{}").unwrap();
    for (round, signal) in
        [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGHUP].into_iter().cycle().take(45).enumerate()
    {
        let run = place.report_to(&report).start();
        std::thread::sleep(Duration::from_millis(2 * round as u64));
        run.signal(signal);
        drop(run.finish());
        // A child that has the whole report may go on for a moment.
        let clock = Instant::now();
        while names(&place.roots) != ["report"] {
            assert!(clock.elapsed() < BOUND, "{:?}", names(&place.roots));
        }
        let _: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    }
}

fn got_no_answer(run: &Run) {
    run.assert_refused();
    assert!(run.errors().contains("no answer within 500ms (--timeout)"), "{run:?}");
}

#[test]
fn a_report_for_a_dead_filesystem() {
    require_root!();
    let place = Place::new();
    let dead = place.fs.beside("dead");
    let _dead = Fuse::dead(&dead);
    let swallowing = place.fs.beside("swallowing");
    let server = Fuse::endless(&swallowing);
    nix::sys::statvfs::statvfs(&swallowing).unwrap();
    server.swallow();
    for at in [&dead, &swallowing] {
        for output in [at.join("report"), at.join("d0/report"), at.clone()] {
            got_no_answer(&place.report_to(&output).run());
        }
        let root = whyfull().args(&["deleted", "--timeout", "500ms", "--root"]).arg(at).within(BOUND);
        got_no_answer(&root.run());
    }
}

/// It was there when the work began.
#[test]
fn a_filesystem_that_dies_before_the_report_is_written() {
    require_root!();
    let place = Place::new();
    for swallows in [false, true] {
        let (walked, written) =
            (place.fs.beside(format!("walked{swallows}")), place.fs.beside(format!("to{swallows}")));
        let walk = Fuse::endless(&walked);
        let mut server = Fuse::endless(&written);
        let run = whyfull().arg(&walked).args(&["-j2", "--timeout", "500ms", "-o"]);
        let run = run.arg(written.join("d0/d0")).arg("--json").within(BOUND);
        // A directory is no file: that is found out before the walk.
        run.clone().refused("Is a directory");
        let run = whyfull().arg(&walked).args(&["-j2", "--timeout", "500ms", "-o"]);
        let run = run.arg(written.join("d0/f0")).arg("--json").within(BOUND).start();
        walk.wait_until_walked(30);
        if swallows {
            server.swallow();
        } else {
            server.stall();
        }
        run.signal(Signal::SIGINT);
        got_no_answer(&run.finish());
    }
}

#[test]
fn descriptors_of_others_are_not_mistaken_for_files() {
    require_root!();
    let place = Place::new();
    // A file that this process, also root's, has open: its path is asked for instead.
    let open = File::create(place.roots.join("open")).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), open.as_raw_fd());
    place.report_to(Path::new(&path)).refused("is not replaced");
    assert_eq!((open.metadata().unwrap().len(), mode(&place.roots.join("open"))), (0, 0o644));
}
