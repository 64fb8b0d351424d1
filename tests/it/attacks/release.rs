// SPDX-License-Identifier: MIT OR Apache-2.0

//! `release` frees what was shown, and no more: whatever becomes of the file, and of those who hold it, between the
//! plan and the answer.

use std::any::Any;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::child::{terminal, wait};
use crate::support::filesystem::Filesystem;
use crate::support::fuse::Fuse;
use crate::support::holder::Holder;
use crate::support::loop_device::LoopDevice;
use crate::support::report::number;
use crate::support::whyfull::{Whyfull, whyfull};
use crate::support::{KIB, MIB};

const BOUND: Duration = Duration::from_secs(30);

/// A file without a name that this test holds and writes to.
struct Log(File);

impl Log {
    fn new(fs: &Filesystem, length: u64) -> Self {
        let path = fs.path().join("log");
        let file = File::options().read(true).append(true).create_new(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let log = Self(file);
        log.append(length);
        log
    }

    fn append(&self, length: u64) {
        (&self.0).write_all(&vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
        self.0.sync_all().unwrap();
    }

    /// Not at its end, for which a descriptor without `O_APPEND` is needed.
    fn overwrite(&self) {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        File::options().write(true).open(path).unwrap().write_all_at(b"y", 7).unwrap();
    }

    fn what(&self) -> String {
        format!("{}:{}", std::process::id(), self.0.as_raw_fd())
    }

    fn release(&self) -> Whyfull {
        whyfull().args(&["release", &self.what()])
    }

    /// Which of its bytes are still there, all of one kind in each part.
    fn kept(&self) -> Vec<u64> {
        let mut bytes = vec![0; usize::try_from(self.0.metadata().unwrap().len()).unwrap()];
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        bytes.chunk_by(|a, b| a == b).map(|part| part.len() as u64).collect()
    }
}

/// A run that asks on a terminal.
struct Dialog {
    child: Child,
    terminal: File,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Dialog {
    fn start(run: &Whyfull) -> Self {
        let (terminal, slave) = terminal(80);
        let mut command = run.command();
        command.stdin(slave.try_clone().unwrap()).stderr(slave).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, shared) = (terminal.try_clone().unwrap(), Arc::clone(&said));
        thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut part) {
                shared.lock().unwrap().extend(&part[..length]);
            }
        });
        Self { child, terminal, said }
    }

    fn said(&self) -> String {
        String::from_utf8(self.said.lock().unwrap().clone()).unwrap()
    }

    /// Waits until it has asked so many times, and returns all that it has said.
    fn asked(&self, times: usize) -> String {
        let clock = Instant::now();
        while self.said().matches("[y/N]").count() < times {
            assert!(clock.elapsed() < BOUND, "not asked {times} times: {}", self.said());
            thread::sleep(Duration::from_millis(5));
        }
        self.said()
    }

    fn answer(&mut self, answer: &str) {
        self.terminal.write_all(answer.as_bytes()).unwrap();
    }

    /// Its status, what it has asked and what it has printed.
    fn end(mut self) -> (Option<i32>, String, String) {
        let status = wait(&mut self.child, BOUND).expect("it ends");
        let mut printed = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        // The last of it may still be on its way.
        thread::sleep(Duration::from_millis(50));
        (status.code(), self.said(), printed)
    }
}

#[test]
fn what_is_still_so_is_asked_once() {
    require_root!();
    for fs in Filesystem::all() {
        let log = Log::new(&fs, MIB);
        let mut dialog = Dialog::start(&log.release());
        dialog.asked(1);
        dialog.answer("y\n");
        let (status, said, _) = dialog.end();
        assert_eq!((status, said.matches("[y/N]").count()), (Some(0), 1), "{said}");
        assert_eq!(log.0.metadata().unwrap().blocks(), 0, "{said}");
    }
}

/// What it returns is kept up to the end.
type Change = fn(&Log) -> Option<Box<dyn Any>>;

/// Every way in which a file, or who holds it, can be another than was shown.
#[test]
fn what_has_changed_is_shown_and_asked_again() {
    require_root!();
    let cases: [(&str, Change); 6] = [
        ("has grown by 4.0 KiB", |log| {
            log.append(4 * KIB);
            None
        }),
        ("was cut by 512.0 KiB", |log| {
            log.0.set_len(MIB / 2).unwrap();
            None
        }),
        ("was written to", |log| {
            log.overwrite();
            None
        }),
        ("its holders are others", |log| Some(Box::new(log.0.try_clone().unwrap()))),
        ("its holders are others", |log| Some(Box::new(map(&log.0)))),
        ("was written to, and its holders are others", |log| {
            log.overwrite();
            Some(Box::new(log.0.try_clone().unwrap()))
        }),
    ];
    for method in [[].as_slice(), &["--truncate", "--force"]] {
        for (words, change) in cases {
            let fs = Filesystem::ext4(64 * MIB);
            let log = Log::new(&fs, MIB);
            let mut dialog = Dialog::start(&log.release().args(method));
            dialog.asked(1);
            let before = log.kept();
            let kept = change(&log);
            let changed = log.0.metadata().unwrap();
            dialog.answer("y\n");
            let said = dialog.asked(2);
            let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(flat.contains(words) && flat.contains("Nothing was done yet"), "{words}: {said}");
            let now = log.0.metadata().unwrap();
            assert_eq!((now.len(), now.blocks()), (changed.len(), changed.blocks()), "{words}: {said}");
            assert!(before.len() == 1 && log.kept().len() <= 3, "{words}");
            dialog.answer("n\n");
            let (status, said, printed) = dialog.end();
            assert_eq!((status, printed.as_str()), (Some(2), ""), "{said}");
            assert!(said.contains("not released"), "{said}");
            assert_eq!(log.0.metadata().unwrap().blocks(), changed.blocks(), "{words}: {said}");
            drop(kept);
        }
    }
}

/// Unmapped when this goes out of scope.
struct Mapped(*mut libc::c_void);

fn map(file: &File) -> Mapped {
    // SAFETY: maps a page that nobody reads.
    let at = unsafe {
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    assert_ne!(at, libc::MAP_FAILED);
    Mapped(at)
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped with that length, and nobody uses it.
        unsafe { libc::munmap(self.0, 4096) };
    }
}

/// It comes between the plan and the answer, and would lose its disk.
#[test]
fn a_loop_device_that_comes_before_the_answer() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let log = Log::new(&fs, MIB);
    let mut dialog = Dialog::start(&log.release());
    dialog.asked(1);
    let _device = LoopDevice::on(format!("/proc/self/fd/{}", log.0.as_raw_fd()).as_ref());
    dialog.answer("y\n");
    let (status, said, _) = dialog.end();
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("the kernel itself uses it"), "{said}");
    assert_eq!(log.kept(), [MIB], "{said}");
}

/// A log that never stands still is released after the second answer, and what came after it was shown stays.
#[test]
fn a_log_that_grows_between_every_plan_and_its_answer() {
    require_root!();
    for fs in
        [Filesystem::ext4(64 * MIB), Filesystem::xfs(), Filesystem::btrfs(), Filesystem::tmpfs(64 * MIB)]
    {
        for method in [[].as_slice(), &["--truncate"]] {
            let log = Log::new(&fs, MIB);
            let mut dialog = Dialog::start(&log.release().args(method).arg("--json"));
            for question in 1..3 {
                dialog.asked(question);
                log.append(64 * KIB);
                dialog.answer("y\n");
            }
            let (status, said, printed) = dialog.end();
            assert_eq!((status, said.matches("[y/N]").count()), (Some(0), 2), "{said}");
            let released: Value = serde_json::from_str(&printed).unwrap();
            assert_eq!(log.kept(), [MIB + 64 * KIB, 64 * KIB], "{said}\n{released:#}");
            assert_eq!(released["appended_bytes"], 64 * KIB, "{released:#}");
            assert_eq!(released["method"], "punch_hole", "{released:#}");
            let note = released["notes"][0].as_str().unwrap();
            assert!(note.starts_with("64.0 KiB more have come since it was looked at"), "{note}");
            assert_eq!(note.contains("was not truncated"), method.contains(&"--truncate"), "{note}");
        }
    }
}

/// The end was not at the end of a block: what is appended into the same block stays.
#[test]
fn what_comes_into_the_last_block() {
    require_root!();
    for fs in
        [Filesystem::ext4(64 * MIB), Filesystem::xfs(), Filesystem::btrfs(), Filesystem::tmpfs(64 * MIB)]
    {
        let log = Log::new(&fs, 10_000);
        let mut dialog = Dialog::start(&log.release());
        for question in 1..3 {
            dialog.asked(question);
            log.append(100);
            dialog.answer("y\n");
        }
        let (status, said, _) = dialog.end();
        assert_eq!((status, log.kept()), (Some(0), vec![10_100, 100]), "{said}");
    }
}

/// Nobody is asked; what has been written since the plan, which takes longer than the writer sleeps, stays.
#[test]
fn a_program_that_writes_without_a_pause() {
    require_root!();
    for method in [[].as_slice(), &["--truncate"]] {
        let fs = Filesystem::ext4(256 * MIB);
        let holder = Holder::start_sized("grow", &fs.path().join("log"), 128 * MIB);
        thread::sleep(Duration::from_millis(200));
        let released = whyfull().args(&["release", &holder.what(), "--yes"]).args(method).done();
        let (shown, appended) = (number(&released["size_bytes"]), number(&released["appended_bytes"]));
        let mut bytes = Vec::new();
        File::open(holder.file()).unwrap().read_to_end(&mut bytes).unwrap();
        if released["method"] == "truncate" {
            assert_eq!(appended, 0, "{released:#}");
            continue;
        }
        let first = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
        let shown = usize::try_from(shown).unwrap();
        assert!(first <= shown, "what has come since is gone: {first} of {shown}: {released:#}");
        assert!(bytes[..shown].iter().all(|&byte| byte == 0), "what was shown is still there");
        assert_eq!(
            appended > 0,
            released["notes"][0].as_str().unwrap_or_default().contains("have come since")
        );
    }
}

/// The server dies between the question and the answer, or before it, and takes every request.
#[test]
fn a_server_that_dies_before_the_answer() {
    require_root!();
    for interrupt in [false, true] {
        let fs = Filesystem::tmpfs(MIB);
        let at = fs.beside("dead");
        let fuse = Fuse::endless(&at);
        let path = at.join("f0");
        drop(File::open(&path).unwrap());
        let file = File::options().write(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let what = format!("{}:{}", std::process::id(), file.as_raw_fd());
        let run = whyfull().args(&["release", &what, "--timeout", "300ms"]);
        let mut dialog = Dialog::start(&run);
        dialog.asked(1);
        fuse.swallow();
        dialog.answer("y\n");
        if interrupt {
            thread::sleep(Duration::from_millis(200));
            kill(Pid::from_raw(dialog.child.id().cast_signed()), Signal::SIGINT).unwrap();
        }
        let clock = Instant::now();
        let (status, said, printed) = dialog.end();
        assert!(clock.elapsed() < Duration::from_secs(10), "{said}");
        assert_eq!((status, printed.as_str()), (if interrupt { None } else { Some(2) }, ""), "{said}");
        assert_eq!(said.contains("has given no answer"), !interrupt, "{said}");
        drop(fuse);
        drop(file);
    }
}

/// A question that nobody answers ends at the first Ctrl-C, and nothing was done.
#[test]
fn an_interrupt_at_the_question() {
    require_root!();
    let fs = Filesystem::ext4(64 * MIB);
    let log = Log::new(&fs, MIB);
    let dialog = Dialog::start(&log.release());
    dialog.asked(1);
    kill(Pid::from_raw(dialog.child.id().cast_signed()), Signal::SIGINT).unwrap();
    let (status, said, printed) = dialog.end();
    assert_eq!((status, printed.as_str()), (None, ""), "{said}");
    assert_eq!(log.kept(), [MIB]);
}
