// SPDX-License-Identifier: MIT OR Apache-2.0

//! A filesystem on which no file can be without a name, and names that differ in case are the same.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::MIB;
use crate::support::filesystem::Filesystem;
use crate::support::flat_fuse::FlatFuse;
use crate::support::holder::Holder;
use crate::support::report::list;
use crate::support::whyfull::whyfull;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn files_are_whole_and_nothing_is_left() {
    require_root!();
    let fs = Filesystem::tmpfs(4 * MIB);
    let at = fs.beside("flat");
    let _flat = FlatFuse::new(&at);
    let holder = Holder::start_sized("fd", &fs.path().join("file"), MIB);
    let copy = at.join("copy");
    let recover = whyfull().args(&["recover", &holder.what()]).arg(&copy);
    for (name, force) in [("copy", false), ("Copy", true)] {
        let recover = whyfull().args(&["recover", &holder.what()]).arg(at.join(name));
        let recover = if force { recover.arg("--force") } else { recover };
        recover.done();
        assert!(fs::read(&copy).unwrap() == fs::read(holder.file()).unwrap());
        assert_eq!(names(&at).len(), 1);
    }
    recover.refused("exists already");
    let report = at.join("report");
    for _ in 0..2 {
        let run = whyfull().args(&["deleted", "--json"]).arg(fs.path()).arg("-o").arg(&report).run();
        assert!(matches!(run.code(), Some(0 | 1)), "{run:?}");
        let _: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        assert_eq!(names(&at).len(), 2, "{:?}", names(&at));
    }
}

/// Whoever is hit by it: all that is left to do goes to the child then.
#[test]
fn a_signal_in_the_middle_leaves_nothing() {
    require_root!();
    let fs = Filesystem::tmpfs(4 * MIB);
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        let at = fs.beside(signal.as_str());
        let flat = FlatFuse::new(&at);
        let holder = Holder::start("append", &fs.path().join("log"));
        let run = whyfull().args(&["recover", "--follow", &holder.what()]).arg(at.join("copy")).start();
        flat.wait_until_written();
        assert!(matches!(names(&at).as_slice(), [name] if name.starts_with(".whyfull-")), "{:?}", names(&at));
        run.signal(signal);
        assert_eq!(run.finish().signal(), Some(signal));
        let clock = Instant::now();
        while !names(&at).is_empty() {
            assert!(clock.elapsed() < Duration::from_secs(20), "{signal}: {:?}", names(&at));
        }
    }
}

#[test]
fn the_index_keeps_its_name_in_any_case() {
    require_root!();
    let fs = Filesystem::ext4(16 * MIB);
    let held = ["Whyfull-Index.JSON", "log", "LOG"].map(|name| {
        let path = fs.path().join(name);
        let mut file = File::create_new(&path).unwrap();
        file.write_all(name.as_bytes()).unwrap();
        fs::remove_file(path).unwrap();
        file
    });
    for args in [[].as_slice(), &["--force"]] {
        let at = fs.beside(args.concat() + "flat");
        let _flat = FlatFuse::new(&at);
        let said = whyfull()
            .args(&["recover", "--all"])
            .arg(&at)
            .arg("--filesystem")
            .arg(fs.path())
            .args(args)
            .done();
        assert_eq!(list(&said["files"]).len(), held.len());
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(at.join("whyfull-index.json")).unwrap()).unwrap();
        assert_eq!(index, said);
        assert_eq!(names(&at).len(), held.len() + 1, "{:?}", names(&at));
    }
}
