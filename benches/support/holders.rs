// SPDX-License-Identifier: MIT OR Apache-2.0

//! A crowd of processes with many open descriptors, some of deleted files.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use clap::Args;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::dup2_stdout;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Files with a name, which the crowd opens over and over.
const NAMED: u64 = 1000;

/// How many of everything there are.
#[derive(Args)]
pub(crate) struct Crowd {
    /// Descriptors open altogether
    #[arg(long, default_value_t = 200_000, value_name = "N")]
    pub(crate) descriptors: u64,
    /// Processes that share them out among themselves
    #[arg(long, default_value_t = 660, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) processes: u64,
    /// Tasks, which are the processes' threads
    #[arg(long, default_value_t = 2000, value_name = "N")]
    pub(crate) tasks: u64,
    /// Deleted files, each held by two processes and twice by the first
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) deleted: u64,
}

/// The bytes of each deleted file by its inode number.
pub(crate) type Deleted = BTreeMap<u64, u64>;

/// The running crowd; dropping it ends it.
pub(crate) struct Holders {
    children: Vec<Child>,
    // The children read from the other end, which the kernel closes for them
    // however this process ends.
    lifeline: Option<PipeWriter>,
}

impl Crowd {
    /// Starts the crowd on files in `dir`, then deletes those it is to hold.
    pub(crate) fn gather(&self, dir: &Path) -> Result<(Holders, Deleted)> {
        for number in 0..NAMED {
            File::create(named(dir, number))?;
        }
        for number in 0..self.deleted {
            let file = File::create(doomed(dir, number))?;
            let size = i64::try_from((number + 1) * 5000)?;
            fallocate(&file, FallocateFlags::empty(), 0, size)?;
        }
        let holders = self.start(dir)?;
        let mut deleted = Deleted::new();
        for number in 0..self.deleted {
            let path = doomed(dir, number);
            let metadata = fs::metadata(&path)?;
            deleted.insert(metadata.ino(), metadata.blocks() * 512);
            fs::remove_file(&path)?;
        }
        Ok((holders, deleted))
    }

    fn start(&self, dir: &Path) -> Result<Holders> {
        let (until, lifeline) = io::pipe()?;
        let (mut ready, say_ready) = io::pipe()?;
        let mut holders = Holders { children: Vec::new(), lifeline: Some(lifeline) };
        for index in 0..self.processes {
            let mut command = Command::new(env::current_exe()?);
            command.arg(format!("--hold={index}")).arg("--bench").arg("--dir").arg(dir);
            command.args(["--descriptors", &self.descriptors.to_string()]);
            command.args(["--processes", &self.processes.to_string()]);
            command.args(["--tasks", &self.tasks.to_string()]);
            command.args(["--deleted", &self.deleted.to_string()]);
            command.stdin(Stdio::from(until.try_clone()?));
            command.stdout(Stdio::from(say_ready.try_clone()?));
            holders.children.push(command.spawn()?);
        }
        drop(say_ready);
        // One byte from each; the pipe ends when all have spoken or died.
        let mut bytes = Vec::new();
        ready.read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len())? != self.processes {
            return Err(format!("only {} holders of {} started", bytes.len(), self.processes).into());
        }
        Ok(holders)
    }

    /// The part of child number `index`: holds its share until its input ends.
    pub(crate) fn hold(&self, index: u64, dir: &Path) -> Result<()> {
        set_pdeathsig(Signal::SIGKILL)?;
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        let held = self.open(index, dir)?;
        for _ in 1..self.share(self.tasks, index) {
            thread::Builder::new().stack_size(16 * 1024).spawn(|| {
                loop {
                    thread::park();
                }
            })?;
        }
        io::stdout().write_all(b".")?;
        io::stdout().flush()?;
        // The last writer to leave tells the parent that nobody is missing.
        dup2_stdout(File::open("/dev/null")?)?;
        io::stdin().read_to_end(&mut Vec::new())?;
        drop(held);
        Ok(())
    }

    fn open(&self, index: u64, dir: &Path) -> Result<Vec<OwnedFd>> {
        let mut held = vec![memfd_create(c"bench", MFdFlags::MFD_CLOEXEC)?];
        for number in 0..self.deleted {
            // Spread over the crowd.
            let first = number * self.processes / self.deleted;
            let times = if index == first { 2 } else { u64::from(index == (first + 1) % self.processes) };
            for _ in 0..times {
                held.push(OpenOptions::new().append(true).open(doomed(dir, number))?.into());
            }
        }
        let wanted = usize::try_from(self.share(self.descriptors, index))?;
        for number in index.. {
            if held.len() >= wanted {
                break;
            }
            held.extend(any(number, dir)?);
        }
        Ok(held)
    }

    /// What child number `index` gets of `all`.
    fn share(&self, all: u64, index: u64) -> u64 {
        all / self.processes + u64::from(index < all % self.processes)
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        self.lifeline = None;
        for child in &mut self.children {
            // One that is gone already is no trouble.
            let _ = child.wait();
        }
    }
}

/// A mixture as on a server: mostly files, some sockets, pipes and devices.
fn any(number: u64, dir: &Path) -> Result<Vec<OwnedFd>> {
    Ok(match number % 20 {
        0 | 1 => {
            let unix = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
            vec![unix.0, unix.1]
        }
        2 => {
            let (read, write) = io::pipe()?;
            vec![read.into(), write.into()]
        }
        3 => vec![File::open("/dev/null")?.into()],
        _ => vec![File::open(named(dir, number % NAMED))?.into()],
    })
}

fn named(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("named-{number}"))
}

fn doomed(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("doomed-{number}"))
}
