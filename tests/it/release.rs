// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command `release`: the space comes back, the program lives on, and nothing else is touched.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use nix::sys::statvfs::statvfs;
use serde_json::Value;

use crate::support::child::{Collected, terminal};
use crate::support::filesystem::Filesystem;
use crate::support::held::Held;
use crate::support::holder::Holder;
use crate::support::report::number;
use crate::support::whyfull::{Whyfull, whyfull};
use crate::support::{MIB, tool};

fn release(what: &str) -> Whyfull {
    whyfull().arg("release").arg(what)
}

/// Runs it, which has to work, and returns what it says.
fn done(run: &Whyfull) -> Value {
    let said = run.clone().arg("--yes").done();
    assert_eq!(said["done"], true);
    said
}

fn is_btrfs(fs: &Filesystem) -> bool {
    nix::sys::statfs::statfs(fs.path()).unwrap().filesystem_type() == nix::sys::statfs::BTRFS_SUPER_MAGIC
}

#[test]
fn what_the_file_held_is_what_df_regains() {
    require_root!();
    for fs in Filesystem::all() {
        for situation in ["fd", "sparse", "prealloc", "tmpfile", "many-fds", "fork-shared"] {
            let path = if situation == "tmpfile" { fs.path().to_owned() } else { fs.path().join(situation) };
            let holder = Holder::start(situation, &path);
            let (before, size) = (fs.used(), fs::metadata(holder.file()).unwrap().len());
            let said = done(&release(&holder.what()).args(&["--inode", &holder.inode().to_string()]));
            let after = fs::metadata(holder.file()).unwrap();
            assert_eq!((after.blocks(), after.len()), (0, size), "{situation}: {said:#}");
            assert_eq!(said["freed_bytes"], holder.bytes(), "{situation}: {said:#}");
            let regained = before - fs.used();
            assert_eq!(number(&said["regained_bytes"]), i128::from(regained), "{situation}: {said:#}");
            if is_btrfs(&fs) {
                // Checksums and extents are records that go with the data.
                assert!((0..=MIB).contains(&(regained - holder.bytes())), "{situation}: {said:#}");
            } else {
                assert_eq!(regained, holder.bytes(), "{situation}: {said:#}");
            }
            let mut beginning = [1; 100];
            File::open(holder.file()).unwrap().read_exact_at(&mut beginning, 0).unwrap();
            assert_eq!(beginning, [0; 100]);
        }
    }
}

#[test]
fn a_writer_goes_on_where_it_was() {
    require_root!();
    for fs in Filesystem::all() {
        for situation in ["append", "write"] {
            let mut holder = Holder::start(situation, &fs.path().join(situation));
            done(&release(&holder.what()));
            holder.write();
            let file = fs::metadata(holder.file()).unwrap();
            assert_eq!(file.len(), 2 * MIB, "{situation}");
            // XFS allocates ahead.
            assert!((MIB..2 * MIB).contains(&(file.blocks() * 512)), "{situation}: only what is new");
        }
    }
}

#[test]
fn truncated_a_writer_begins_again() {
    require_root!();
    for fs in Filesystem::all() {
        for situation in ["append", "write"] {
            let mut holder = Holder::start(situation, &fs.path().join(situation));
            let said = done(&release(&holder.what()).arg("--truncate"));
            assert_eq!((&said["method"], &said["freed_bytes"]), (&"truncate".into(), &holder.bytes().into()));
            assert_eq!(fs::metadata(holder.file()).unwrap().len(), 0);
            holder.write();
            assert_eq!(
                fs::metadata(holder.file()).unwrap().len(),
                MIB,
                "{situation}: its offset was set back"
            );
        }
    }
}

#[test]
fn mapped_files_read_as_zeros() {
    require_root!();
    for fs in Filesystem::all() {
        let holder = Holder::start("map", &fs.path().join("mapped"));
        let what = format!("{}:map", holder.pid());
        let plan = release(&what).arg("--dry-run").run();
        assert!(plan.text().contains("will read zeros"), "{plan:?}");
        release(&what).args(&["--truncate", "--yes"]).refused("PID:FD");
        let said = done(&release(&what));
        assert_eq!(said["freed_bytes"], holder.bytes());
        assert!(Path::new(&format!("/proc/{}/exe", holder.pid())).exists(), "it lives");
    }
}

#[test]
fn by_its_number_alone() {
    require_root!();
    for fs in [Filesystem::ext4(64 * MIB), Filesystem::xfs(), Filesystem::btrfs()] {
        let holder = Holder::start("fd", &fs.path().join("file"));
        let run = release(&format!("inode:{}", holder.inode())).arg("--filesystem").arg(fs.path());
        let said = done(&run);
        assert_eq!(said["freed_bytes"], holder.bytes());
        assert_eq!(said["held_by"][0]["pid"], holder.pid(), "who is concerned is looked for");
    }
}

#[test]
fn what_is_not_released() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let yes = |what: &str| release(what).arg("--yes");
    let named = Holder::start("hardlink-left", &fs.path().join("named"));
    yes(&named.what()).refused("still has a name");
    yes(&named.what()).arg("--force").refused("still has a name");
    let running = Holder::start("exe", &fs.path().join("program"));
    for how in [["--yes"].as_slice(), &["--yes", "--force"], &["--dry-run"]] {
        release(&format!("{}:exe", running.pid())).args(how).refused("restart the program");
    }
    let unseen = yes(&format!("inode:{}", running.inode())).arg("--filesystem").arg(fs.path());
    unseen.in_pid_namespace().refused("or swap in use");
    let held = Holder::start("fd", &fs.path().join("file"));
    yes(&held.what()).args(&["--inode", "1"]).refused("this is inode");
    yes(&format!("{}:999", held.pid())).refused("no such descriptor");
    let reader = Holder::start("read-only", &fs.path().join("read"));
    yes(&reader.what()).arg("--truncate").refused("open for writing");
    assert_eq!(fs::metadata(reader.file()).unwrap().len(), MIB);
    let memory = Holder::start("memfd", &fs.path().join("memory"));
    yes(&memory.what()).refused("no mounted filesystem");
    assert_eq!(fs::metadata(held.file()).unwrap().blocks() * 512, held.bytes());
}

#[test]
fn mapped_files_are_truncated_only_by_force() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    // Both by one process.
    let mut both = Holder::start("write-mapped", &fs.path().join("both"));
    release(&both.what()).args(&["--truncate", "--yes"]).refused("SIGBUS");
    assert_eq!(fs::metadata(both.file()).unwrap().len(), MIB);
    done(&release(&both.what()).args(&["--truncate", "--force"]));
    both.write();
    assert_eq!(fs::metadata(both.file()).unwrap().len(), MIB);
}

#[test]
fn the_disk_of_a_loop_device() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let (image, at) = (fs.path().join("image"), fs.beside("inside"));
    File::create(&image).unwrap().set_len(16 * MIB).unwrap();
    tool("mkfs.ext4", &["-q".as_ref(), image.as_ref()]);
    tool("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), at.as_ref()]);
    tool("sync", &["-f".as_ref(), image.as_ref()]);
    let before = image.metadata().unwrap();
    let by_hand = File::open(&image).unwrap();
    fs::remove_file(&image).unwrap();
    let what = format!("inode:{}", before.ino());
    let run = release(&what).arg("--filesystem").arg(fs.path()).arg("--yes");
    run.refused("/dev/loop");
    assert_eq!(by_hand.metadata().unwrap().blocks(), before.blocks());
}

/// Mounted without any loop device (Linux 6.12): no process holds it, and only its name is known.
#[test]
fn a_mounted_image() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let held = Held::by_mounted_erofs(&fs);
    let run = release(&format!("inode:{}", held.inode)).arg("--filesystem").arg(fs.path()).arg("--yes");
    run.refused("the kernel itself uses it (mount ");
}

/// Asks on a terminal, and returns what it has said there with its status.
fn answer(run: &Whyfull, answer: &str) -> (Option<i32>, String) {
    let (mut master, slave) = terminal(80);
    let mut command = run.command();
    command.stdin(slave.try_clone().unwrap()).stderr(slave).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    master.write_all(answer.as_bytes()).unwrap();
    let said = Collected::new(master);
    let status = child.wait().unwrap();
    (status.code(), String::from_utf8(said.bytes()).unwrap())
}

#[test]
fn it_asks_first() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let holder = Holder::start("append", &fs.path().join("log"));
    let run = release(&holder.what());
    let blocks = || fs::metadata(holder.file()).unwrap().blocks() * 512;
    run.refused("not a terminal");
    let plan = run.clone().arg("--dry-run").run();
    assert_eq!(plan.code(), Some(0), "{plan:?}");
    for words in
        [fs.path().join("log").to_str().unwrap(), "1.0 MiB", &holder.pid().to_string(), "whyfull recover"]
    {
        assert!(plan.text().contains(words), "{words}: {plan:?}");
    }
    for no in ["n\n", "\n", "\x04", "yess\n", "Y es\n", "no\n"] {
        let (status, said) = answer(&run, no);
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains("Release it?") && said.contains("not released"), "{said}");
    }
    assert_eq!(blocks(), holder.bytes(), "nothing was done");
    let (status, said) = answer(&run, "y\n");
    assert_eq!((status, blocks()), (Some(0), 0), "{said}");
}

#[test]
fn rights_that_are_missing_are_named() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    let open = fs.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    let own = Holder::start_as_nobody("write", &open.join("own"));
    let foreign = Holder::start("fd", &open.join("foreign"));
    let run = release(&foreign.what()).arg("--yes").by_nobody().refused("CAP_SYS_PTRACE");
    assert!(run.errors().contains("sudo whyfull release"), "{run:?}");
    let said = done(&release(&own.what()).by_nobody());
    assert_eq!(said["freed_bytes"], own.bytes());
    // Whoever may look into the process may still not write to the file.
    let file = File::open(own.file()).unwrap();
    nix::unistd::fchown(&file, Some(0.into()), None).unwrap();
    release(&own.what()).args(&["--yes"]).by_nobody().refused("CAP_DAC_OVERRIDE");
}

#[test]
fn a_full_disk_and_a_program_that_goes_on() {
    require_root!();
    let fs = Filesystem::ext4(16 * MIB);
    let holder = Holder::start("grow", &fs.path().join("log"));
    // Some free blocks are never given out, not even to root.
    let full = || statvfs(fs.path()).unwrap().blocks_available() == 0;
    while !full() {
        std::thread::yield_now();
    }
    // Before: soon after, the disk may be full again.
    let size = fs::metadata(holder.file()).unwrap().len();
    let said = done(&release(&holder.what()));
    assert!(number(&said["freed_bytes"]) > i128::from(8 * MIB), "{said:#}");
    while fs::metadata(holder.file()).unwrap().len() == size {
        std::thread::yield_now();
    }
}
