// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command `recover`: what was deleted comes back, byte for byte, and nothing else is touched.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use nix::unistd::{Whence, lseek};
use serde_json::Value;

use crate::support::filesystem::Filesystem;
use crate::support::holder::Holder;
use crate::support::report::{list, number};
use crate::support::whyfull::{Whyfull, whyfull};
use crate::support::{KIB, MIB, NOBODY, temp_dir, tool};

fn recover(what: &str, destination: &Path) -> Whyfull {
    whyfull().arg("recover").arg(what).arg(destination)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "lost+found");
    names.sort();
    names
}

#[test]
fn the_bytes_are_those_of_the_original() {
    require_root!();
    for fs in Filesystem::all() {
        let holder = Holder::start("fd", &fs.path().join("file"));
        let beside = temp_dir();
        for directory in [fs.path(), beside.path()] {
            let copy = directory.join("copy");
            let said = recover(&holder.what(), &copy).done();
            assert!(fs::read(&copy).unwrap() == fs::read(holder.file()).unwrap(), "{said:#}");
            let metadata = copy.metadata().unwrap();
            assert_eq!((metadata.mode() & 0o7777, metadata.nlink()), (0o600, 1));
            assert_eq!(
                (&said["inode"], &said["length_bytes"]),
                (&holder.inode().into(), &holder.size().into())
            );
            assert_eq!(said["copied_bytes"], holder.size().next_multiple_of(4096), "{said:#}");
            assert_eq!(said["destination"], copy.to_str().unwrap());
            assert_eq!(said["held_by"][0]["pid"], holder.pid());
            assert_eq!(names(directory), ["copy"], "nothing else is left");
        }
    }
}

#[test]
fn holes_stay_holes() {
    require_root!();
    for fs in Filesystem::all() {
        let holder = Holder::start("sparse", &fs.path().join("file"));
        let beside = Filesystem::ext4(64 * MIB);
        for directory in [fs.path(), beside.path()] {
            let copy = directory.join("copy");
            recover(&holder.what(), &copy).done();
            let (source, copy) = (File::open(holder.file()).unwrap(), File::open(copy).unwrap());
            let metadata = copy.metadata().unwrap();
            assert_eq!(metadata.len(), 10 << 30);
            assert!(metadata.blocks() * 512 <= holder.bytes(), "the source may have blocks beyond its end");
            let data = usize::try_from(256 * KIB).unwrap();
            let (mut expected, mut found) = (vec![0; data], vec![1; data]);
            source.read_exact_at(&mut expected, 0).unwrap();
            copy.read_exact_at(&mut found, 0).unwrap();
            assert!(expected == found);
            let behind = i64::try_from(256 * KIB).unwrap();
            assert!(lseek(&copy, behind, Whence::SeekData).is_err(), "the rest is one hole");
        }
    }
}

#[test]
fn mapped_or_running() {
    require_root!();
    let out = temp_dir();
    for fs in Filesystem::all() {
        for (situation, via) in [("map", "map"), ("zombie-leader-map", "map"), ("exe", "exe")] {
            let holder = Holder::start(situation, &fs.path().join(situation));
            let task = if situation == "zombie-leader-map" { holder.tid() } else { holder.pid() };
            let copy = out.path().join("copy");
            let said = recover(&format!("{task}:{via}"), &copy).done();
            assert_eq!((&said["inode"], &said["held_by"][0]["via"]), (&holder.inode().into(), &via.into()));
            let original = if via == "exe" {
                fs::read(format!("/proc/{task}/exe")).unwrap()
            } else {
                let holder = Holder::start("fd", &fs.path().join("same"));
                fs::read(holder.file()).unwrap()
            };
            assert!(fs::read(&copy).unwrap() == original);
            fs::remove_file(copy).unwrap();
        }
    }
}

#[test]
fn a_thread_with_a_table_of_its_own() {
    require_root!();
    let (fs, out) = (Filesystem::ext4(64 * MIB), temp_dir());
    let holder = Holder::start("thread-table", &fs.path().join("file"));
    let said = recover(&format!("{}:{}", holder.tid(), holder.fd()), &out.path().join("copy")).done();
    assert_eq!(said["inode"], holder.inode());
    assert_eq!(
        (&said["held_by"][0]["pid"], &said["held_by"][0]["tid"]),
        (&holder.pid().into(), &holder.tid().into())
    );
}

/// Also where nobody is seen to hold it.
#[test]
fn by_its_number_alone() {
    require_root!();
    let out = temp_dir();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::xfs(), Filesystem::btrfs()] {
        let holder = Holder::start("fd", &fs.path().join("by-number"));
        let what = format!("inode:{}", holder.inode());
        let run = recover(&what, out.path()).arg("--filesystem").arg(fs.path());
        let said = run.in_pid_namespace().done();
        let copy = out.path().join("by-number");
        assert!(fs::read(&copy).unwrap() == fs::read(holder.file()).unwrap(), "{said:#}");
        fs::remove_file(copy).unwrap();
        let other = recover(&format!("inode:{}", holder.inode() + 1000), out.path());
        other.clone().arg("--filesystem").arg(fs.path()).refused("no deleted file");
        other.refused("--filesystem");
    }
    let fs = Filesystem::tmpfs(MIB);
    recover("inode:7", out.path()).arg("--filesystem").arg(fs.path()).refused("keeps no list");
    assert_eq!(names(out.path()), Vec::<String>::new());
}

#[test]
fn from_and_to_a_full_disk() {
    require_root!();
    for fs in [Filesystem::xfs(), Filesystem::btrfs()] {
        let holder = Holder::start_sized("fd", &fs.path().join("file"), 20 * MIB);
        let mut filler = File::create(fs.path().join("filler")).unwrap();
        let block = vec![7; usize::try_from(MIB).unwrap()];
        while filler.write_all(&block).is_ok() {}
        drop(filler);
        let before = fs.used();
        let said = recover(&holder.what(), &fs.path().join("copy")).done();
        assert_eq!(said["method"], "reflink", "{said:#}");
        assert!(fs.used().abs_diff(before) <= 128 * KIB, "it takes no space but for the name");
        assert!(fs::read(fs.path().join("copy")).unwrap() == fs::read(holder.file()).unwrap());
        // Elsewhere the space is looked for first.
        let small = Filesystem::tmpfs(MIB);
        recover(&holder.what(), small.path()).refused("20.0 MiB are needed");
        assert_eq!(names(small.path()), Vec::<String>::new());
    }
}

/// As journals and disk images are on btrfs.
#[test]
fn blocks_that_are_overwritten_in_place_are_shared() {
    require_root!();
    let fs = Filesystem::btrfs();
    let directory = fs.path().join("in-place");
    fs::create_dir(&directory).unwrap();
    tool("chattr", &["+C".as_ref(), directory.as_ref()]);
    let holder = Holder::start("fd", &directory.join("journal"));
    let said = recover(&holder.what(), &fs.path().join("copy")).done();
    assert_eq!(said["method"], "reflink", "{said:#}");
    assert!(fs::read(fs.path().join("copy")).unwrap() == fs::read(holder.file()).unwrap());
}

#[test]
fn while_it_is_written() {
    require_root!();
    for (fs, by_descriptor) in Filesystem::all().into_iter().zip([true, false, true, false]) {
        let mut holder = Holder::start("append", &fs.path().join("log"));
        let original = File::open(holder.file()).unwrap();
        let out = temp_dir();
        let copy = out.path().join("log");
        let follow = recover(&holder.what(), &copy).args(&["--follow", "--json"]).start();
        for _ in 0..3 {
            holder.write();
            std::thread::sleep(Duration::from_millis(30));
        }
        assert!(!copy.exists(), "it has its name when it is whole");
        // One ends with the descriptor, the other with the process.
        if by_descriptor {
            holder.close();
        } else {
            drop(holder);
        }
        let run = follow.finish();
        assert_eq!(run.code(), Some(0), "{run:?}");
        let mut whole = vec![0; usize::try_from(original.metadata().unwrap().len()).unwrap()];
        original.read_exact_at(&mut whole, 0).unwrap();
        assert_eq!(whole.len() as u64, 4 * MIB);
        assert!(fs::read(&copy).unwrap() == whole, "{run:?}");
    }
}

#[test]
fn a_growing_file_up_to_what_it_was() {
    require_root!();
    let (fs, out) = (Filesystem::ext4(256 * MIB), temp_dir());
    let holder = Holder::start_sized("grow", &fs.path().join("log"), 128 * MIB);
    let copy = out.path().join("log");
    let said = recover(&holder.what(), &copy).done();
    let (copied, original) = (fs::read(&copy).unwrap(), fs::read(holder.file()).unwrap());
    assert_eq!(copied.len() as i128, number(&said["length_bytes"]));
    assert!(original.starts_with(&copied), "{said:#}");
}

#[test]
fn nothing_is_overwritten() {
    require_root!();
    let (fs, out) = (Filesystem::ext4(64 * MIB), temp_dir());
    let holder = Holder::start("fd", &fs.path().join("file"));
    let existing = out.path().join("existing");
    fs::write(&existing, "mine").unwrap();
    recover(&holder.what(), &existing).refused("exists already");
    // Also not the one of that name in a directory.
    fs::write(out.path().join("file"), "mine").unwrap();
    recover(&holder.what(), out.path()).refused("exists already");
    let link = out.path().join("link");
    symlink(&existing, &link).unwrap();
    let dangling = out.path().join("dangling");
    symlink(out.path().join("nowhere"), &dangling).unwrap();
    for link in [&link, &dangling] {
        recover(&holder.what(), link).refused("symbolic link");
        recover(&holder.what(), link).arg("--force").refused("symbolic link");
    }
    assert_eq!(fs::read(&existing).unwrap(), b"mine");
    let fifo = out.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    recover(&holder.what(), &fifo).arg("--force").refused("not a regular file");
    recover(&holder.what(), &out.path().join("missing/")).refused("Not a directory");
    recover(&holder.what(), &out.path().join("missing/copy")).refused("No such file");

    recover(&holder.what(), &existing).arg("--force").done();
    assert!(fs::read(&existing).unwrap() == fs::read(holder.file()).unwrap());
    assert_eq!(names(out.path()), ["dangling", "existing", "fifo", "file", "link"]);
}

#[test]
fn a_directory_gets_the_former_name() {
    require_root!();
    let (fs, out) = (Filesystem::ext4(64 * MIB), temp_dir());
    let never_named = Holder::start("tmpfile", fs.path());
    let hostile = Holder::start("hostile-name", fs.path());
    recover(&never_named.what(), out.path()).done();
    let run = recover(&hostile.what(), out.path()).run();
    assert_eq!(run.code(), Some(0), "{run:?}");
    assert!(!run.text().contains(['\x1b', '\u{202e}', '\t']) && run.text().lines().count() < 4, "{run:?}");
    let mut names: Vec<_> = fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names[1], format!("inode-{}", never_named.inode()).as_str());
    assert!(names[0].as_bytes().ends_with(b"end") && names[0].as_bytes().starts_with(b"a\nb"));
}

#[test]
fn attributes_are_kept_when_asked_for() {
    require_root!();
    let (fs, out) = (Filesystem::ext4(64 * MIB), temp_dir());
    let holder = Holder::start("fd", &fs.path().join("file"));
    let original = File::options().write(true).open(holder.file()).unwrap();
    original.set_permissions(PermissionsExt::from_mode(0o640)).unwrap();
    nix::unistd::fchown(&original, Some(NOBODY.into()), Some(7.into())).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    original.set_times(fs::FileTimes::new().set_modified(long_ago).set_accessed(long_ago)).unwrap();
    xattr::FileExt::set_xattr(&original, "user.colour", b"blue").unwrap();
    let copy = out.path().join("copy");
    let said = recover(&holder.what(), &copy).arg("--preserve").done();
    let metadata = copy.metadata().unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o640, NOBODY, 7), "{said:#}");
    assert_eq!((metadata.modified().unwrap(), metadata.accessed().unwrap()), (long_ago, long_ago));
    // A temporary directory may be on a filesystem without such attributes: then that is told.
    let kept = xattr::get(&copy, "user.colour").ok().flatten();
    assert!(kept.as_deref() == Some(b"blue") || !list(&said["notes"]).is_empty(), "{said:#}");
}

#[test]
fn what_is_not_recovered() {
    require_root!();
    let (fs, out) = (Filesystem::ext4(64 * MIB), temp_dir());
    let to = |what: &str| recover(what, out.path());
    let named = Holder::start("hardlink-left", &fs.path().join("named"));
    to(&named.what()).refused("still has a name");
    let live = Holder::start("live-deleted-name", &fs.path().join("live"));
    to(&live.what()).refused("still has a name");
    let held = Holder::start("fd", &fs.path().join("file"));
    to(&held.what()).args(&["--inode", "1"]).refused("this is inode");
    to(&format!("{}:999", held.pid())).refused("no such descriptor");
    to(&format!("{}:map", held.pid())).refused("no deleted file is mapped");
    to(&format!("{}:exe", held.pid())).refused("still has a name");
    to("2147483646:3").refused("no such process");
    // Its standard input, a pipe.
    to(&format!("{}:0", held.pid())).refused("no data of its own");
    to(&format!("{}:cwd", held.pid())).refused("a directory has no data");
    to("nonsense").refused("PID:FD");
    to(&format!("{}:map", held.pid())).arg("--follow").refused("no deleted file");
    let two = Holder::start("two-maps", &fs.path().join("mapped"));
    let what = format!("{}:map", two.pid());
    to(&what).refused(&format!("--inode {}", two.inode()));
    to(&what).arg("--follow").args(&["--inode", &two.inode().to_string()]).refused("--follow takes PID:FD");
    assert_eq!(names(out.path()), Vec::<String>::new());
    let said = to(&what).args(&["--inode", &two.inode().to_string()]).done();
    assert_eq!(said["inode"], two.inode());
}

/// A copy that never ends, so that it is always in the middle.
#[test]
fn ended_in_the_middle_it_leaves_nothing() {
    require_root!();
    for fs in Filesystem::all() {
        let mut holder = Holder::start("append", &fs.path().join("log"));
        let out = Filesystem::ext4(64 * MIB);
        let copy = out.path().join("log");
        let follow = recover(&holder.what(), &copy).arg("--follow").start();
        holder.write();
        wait_until_copied(follow.pid(), out.path());
        follow.signal(Signal::SIGKILL);
        assert_eq!(follow.finish().signal(), Some(Signal::SIGKILL));
        assert_eq!(names(out.path()), Vec::<String>::new());
        // Ctrl-C, here, is how the user says that it is enough.
        let follow = recover(&holder.what(), &copy).arg("--follow").start();
        wait_until_copied(follow.pid(), out.path());
        follow.signal(Signal::SIGINT);
        let run = follow.finish();
        assert_eq!(run.signal(), Some(Signal::SIGINT), "{run:?}");
        assert!(fs::read(&copy).unwrap() == fs::read(holder.file()).unwrap(), "{run:?}");
    }
}

/// Until all that there is has been copied, by the process that does it.
fn wait_until_copied(pid: u32, directory: &Path) {
    let children = format!("/proc/{pid}/task/{pid}/children");
    let worker = || fs::read_to_string(&children).unwrap().trim().parse::<u32>();
    let pid = loop {
        if let Ok(pid) = worker() {
            break pid;
        }
    };
    let device = directory.metadata().unwrap().dev();
    let is_there = |entry: fs::DirEntry| {
        fs::metadata(entry.path())
            .is_ok_and(|file| file.dev() == device && file.is_file() && file.len() == 2 * MIB)
    };
    while !fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(Result::ok).any(is_there) {
        std::thread::yield_now();
    }
}

#[test]
fn all_of_them() {
    require_root!();
    let (fs, out) = (Filesystem::ext4(64 * MIB), Filesystem::tmpfs(3 * MIB));
    fs::create_dir(fs.path().join("other")).unwrap();
    let small = [fs.path().join("log"), fs.path().join("other/log")].map(|path| {
        let holder = Holder::start_sized("fd", &path, 64 * KIB);
        (holder.inode(), holder)
    });
    let mapped = Holder::start("map", &fs.path().join("mapped"));
    let _directory = Holder::start("cwd", &fs.path().join("gone"));
    let all = whyfull().arg("recover").arg("--all").arg(out.path()).arg("--filesystem").arg(fs.path());
    let said = all.done();
    assert_eq!(said["complete"], true);
    let index: Value =
        serde_json::from_slice(&fs::read(out.path().join("whyfull-index.json")).unwrap()).unwrap();
    assert_eq!(index, said, "the same is printed and kept");
    let files = list(&index["files"]);
    assert_eq!(files.len(), 3, "{index:#}");
    for (inode, holder) in &small {
        let entry = files.iter().find(|file| file["inode"] == *inode).unwrap();
        let copy = fs::read(entry["copied"]["destination"].as_str().unwrap()).unwrap();
        assert!(copy == fs::read(holder.file()).unwrap(), "{entry:#}");
        assert_eq!(entry["held_by"][0]["pid"], holder.pid());
    }
    assert!(files.iter().any(|file| file["inode"] == mapped.inode()));
    let kept = names(out.path());
    assert!(
        kept.contains(&"log".to_owned()) && kept.iter().any(|name| name.starts_with("log.inode-")),
        "{kept:?}"
    );
    all.refused("exists already");

    // What does not fit is told, and the rest is saved.
    let large = Holder::start_sized("fd", &fs.path().join("large"), 8 * MIB);
    for name in names(out.path()) {
        fs::remove_file(out.path().join(name)).unwrap();
    }
    let run = all.clone().arg("--json").run();
    assert_eq!(run.code(), Some(1), "{run:?}");
    let index: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(index["complete"], false);
    for file in list(&index["files"]) {
        let fits = file["inode"] != large.inode();
        assert_eq!(file["copied"].is_object(), fits, "{file:#}");
        assert_eq!(file["error"].is_null(), fits, "{file:#}");
    }
    assert_eq!(names(out.path()).len(), 4, "three files and the index");
}

#[test]
fn rights_that_are_missing_are_named() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    let open = fs.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    let own = Holder::start_as_nobody("fd", &open.join("own"));
    let foreign = Holder::start("fd", &open.join("foreign"));
    let copy = open.join("copy");
    recover(&own.what(), &copy).by_nobody().done();
    assert_eq!(copy.metadata().unwrap().uid(), NOBODY);
    let run = recover(&foreign.what(), &open).by_nobody().refused("CAP_SYS_PTRACE");
    assert!(run.errors().contains("sudo whyfull recover"), "{run:?}");
    let disk = Filesystem::ext4(16 * MIB);
    let number = recover("inode:12", &open).arg("--filesystem").arg(disk.path());
    number.by_nobody().refused("CAP_DAC_READ_SEARCH");
}

/// A number that another process has got is no way to that process's files.
#[test]
fn the_number_of_another_process() {
    require_root!();
    let (fs, out) = (Filesystem::tmpfs(64 * MIB), temp_dir());
    let script = r#"
        cd "$2"
        mkfifo never
        exec 9<> never
        "$0" fd first <&9 > said & first=$!
        until grep -qs ready said; do :; done
        inode=$(sed 's/.*ino=\([0-9]*\).*/\1/' said)
        kill -9 $first; wait $first 2> /dev/null
        echo $((first - 1)) > /proc/sys/kernel/ns_last_pid
        "$0" fd second <&9 > said & second=$!
        test $first = $second || { echo "no reuse: $first $second"; exit 3; }
        until grep -qs ready said; do :; done
        "$1" recover "$second:3" "$3" --inode "$inode"
    "#;
    let run = whyfull().arg(fs.path()).arg(out.path()).after(script);
    run.refused("another file has taken its place");
    assert_eq!(names(out.path()), Vec::<String>::new());
}
