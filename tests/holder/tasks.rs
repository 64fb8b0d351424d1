// SPDX-License-Identifier: MIT OR Apache-2.0

//! What threads, their leader, and the process itself can hold.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid, UnlinkatFlags};

use crate::files::{only_mapped, unlinked};
use crate::{Held, die_with_parent, wait_for_end_of_input};

/// The second life of `exe`, after the copy was started.
pub(crate) const EXE_RUNNING: &str = "exe-running";

/// Runs `body` in a thread that announces itself and then only exists.
fn in_thread(body: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    thread::spawn(move || {
        if let Err(error) = body() {
            fail(&error);
        }
        // Its descriptor table or working directory lives as long as it does.
        loop {
            thread::park();
        }
    });
    wait_for_end_of_input()
}

/// Ends the whole process from a thread.
fn fail(error: &io::Error) -> ! {
    eprintln!("holder: thread: {error}");
    std::process::exit(1)
}

/// One thread has a descriptor table of its own; the leader's lacks the file.
pub(crate) fn thread_table(path: &Path, size: u64) -> io::Result<()> {
    let path = path.to_owned();
    in_thread(move || {
        nix::sched::unshare(CloneFlags::CLONE_FILES)?;
        let file = unlinked(&path, size)?;
        Held::descriptor(&file)?.announce()?;
        std::mem::forget(file);
        Ok(())
    })
}

pub(crate) fn zombie_leader(path: &Path, size: u64) -> io::Result<()> {
    let path = path.to_owned();
    without_leader(move || {
        let file = unlinked(&path, size)?;
        let held = Held::descriptor(&file)?;
        Ok((held, Some(file)))
    })
}

/// `map_files` exists at the leader only, and the leader's is empty.
pub(crate) fn zombie_leader_map(path: &Path, size: u64) -> io::Result<()> {
    let path = path.to_owned();
    without_leader(move || Ok((only_mapped(&path, size)?, None)))
}

/// The leader ends; another thread lives on with what `body` holds.
fn without_leader(
    body: impl FnOnce() -> io::Result<(Held, Option<File>)> + Send + 'static,
) -> io::Result<()> {
    thread::spawn(move || {
        let done = body().and_then(|(held, file)| {
            while !leader_is_zombie()? {
                thread::yield_now();
            }
            held.announce()?;
            wait_for_end_of_input()?;
            drop(file);
            Ok(())
        });
        match done {
            Ok(()) => std::process::exit(0),
            Err(error) => fail(&error),
        }
    });
    // SAFETY: ends this thread alone; nothing on its stack is borrowed elsewhere.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Err(io::Error::last_os_error())
}

fn leader_is_zombie() -> io::Result<bool> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", std::process::id()))?;
    Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// Runs a copy of this very program and deletes the copy.
pub(crate) fn executable(path: &Path, _: u64) -> io::Result<()> {
    let mut copy = File::create_new(path)?;
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    copy.set_permissions(PermissionsExt::from_mode(0o755))?;
    copy.sync_all()?;
    drop(copy);
    Err(Command::new(path).arg(EXE_RUNNING).arg(path).exec())
}

pub(crate) fn executable_running(path: &Path, _: u64) -> io::Result<()> {
    fs::remove_file(path)?;
    Held::inode_of(&File::open("/proc/self/exe")?)?.announce()?;
    wait_for_end_of_input()
}

/// A new directory; what it is can still be told once its name is gone.
fn directory(path: &Path) -> io::Result<File> {
    fs::create_dir(path)?;
    File::open(path)
}

/// Allocation and size as they are after the removal (ext4 sets the size to 0).
fn announce_directory(directory: File) -> io::Result<()> {
    let held = Held::inode_of(&directory)?;
    drop(directory);
    held.announce()
}

fn enter_and_remove(path: &Path) -> io::Result<()> {
    let directory = directory(path)?;
    nix::unistd::fchdir(&directory)?;
    fs::remove_dir(path)?;
    announce_directory(directory)
}

pub(crate) fn working_directory(path: &Path, _: u64) -> io::Result<()> {
    enter_and_remove(path)?;
    wait_for_end_of_input()
}

pub(crate) fn root_directory(path: &Path, _: u64) -> io::Result<()> {
    let parent = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    let parent = nix::fcntl::openat(AT_FDCWD, &parent, OFlag::O_DIRECTORY, Mode::empty())?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = directory(path)?;
    std::env::set_current_dir("/")?;
    nix::unistd::chroot(path)?;
    nix::unistd::unlinkat(&parent, name, UnlinkatFlags::RemoveDir)?;
    drop(parent);
    announce_directory(directory)?;
    wait_for_end_of_input()
}

/// One thread has a working directory of its own.
pub(crate) fn thread_working_directory(path: &Path, _: u64) -> io::Result<()> {
    let path = path.to_owned();
    in_thread(move || {
        nix::sched::unshare(CloneFlags::CLONE_FS)?;
        enter_and_remove(&path)
    })
}

/// A child that dies with this process. Once this returns it has prepared itself:
/// were it killed earlier, this process could end without being noticed.
pub(crate) fn fork_companion(prepare: impl FnOnce()) -> io::Result<Pid> {
    let parent = nix::unistd::getpid();
    let (mut ready, tell) = io::pipe()?;
    // SAFETY: this process has one thread, so the child may do anything.
    if let ForkResult::Parent { child } = unsafe { nix::unistd::fork() }? {
        drop(tell);
        ready.read_exact(&mut [0])?;
        return Ok(child);
    }
    prepare();
    let tied = die_with_parent().and_then(|()| (&tell).write_all(b"r"));
    drop((ready, tell));
    while tied.is_ok() && nix::unistd::getppid() == parent {
        nix::unistd::pause();
    }
    std::process::exit(0)
}

/// Two processes, one open file description.
pub(crate) fn fork_shared(path: &Path, size: u64) -> io::Result<()> {
    let file = unlinked(path, size)?;
    let mut held = Held::descriptor(&file)?;
    held.children.push(fork_companion(|| ())?);
    held.announce()?;
    wait_for_end_of_input()
}
