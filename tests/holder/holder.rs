// SPDX-License-Identifier: MIT OR Apache-2.0

//! Puts itself into one named situation in which something without a name stays
//! in use, says so in one line, and stays there until its standard input ends.
//!
//! `holder SITUATION PATH [SIZE]` prints
//! `ready pid=1 tid=1 fd=3 ino=12 bytes=4096 size=4096 dev=7:0 fds=3 children=`
//! (`-` where there is no descriptor). The idea is util-linux's `test_mkfds`.

mod files;
mod passed;
mod tasks;
mod traps;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Name, the size when none is given, and what to do.
type Situation = (&'static str, u64, fn(&Path, u64) -> io::Result<()>);

const SITUATIONS: &[Situation] = &[
    ("fd", MIB, files::descriptor),
    ("many-fds", MIB, files::many_descriptors),
    ("many", 1000, files::stress),
    ("o-path", MIB, files::o_path),
    ("tmpfile", MIB, files::tmpfile),
    ("renamed-over", MIB, files::renamed_over),
    ("sparse", 256 * KIB, files::sparse),
    ("prealloc", 2 * MIB, files::preallocated),
    ("map", MIB, files::mapped),
    ("hostile-name", 64 * KIB, files::hostile_name),
    ("hostile-map", 64 * KIB, files::hostile_map),
    ("grow", 64 * MIB, files::growing),
    ("append", MIB, files::appending),
    ("log", MIB, files::reopening_log),
    ("write", MIB, files::writing),
    ("write-mapped", MIB, files::writing_mapped),
    ("two-maps", MIB, files::two_mapped),
    ("read-only", MIB, files::read_only),
    ("thread-table", MIB, tasks::thread_table),
    ("zombie-leader", MIB, tasks::zombie_leader),
    ("zombie-leader-map", MIB, tasks::zombie_leader_map),
    ("exe", 0, tasks::executable),
    (tasks::EXE_RUNNING, 0, tasks::executable_running),
    ("cwd", 0, tasks::working_directory),
    ("root", 0, tasks::root_directory),
    ("thread-cwd", 0, tasks::thread_working_directory),
    ("fork-shared", MIB, tasks::fork_shared),
    ("queued-stream", MIB, passed::queued_stream),
    ("queued-datagram", MIB, passed::queued_datagram),
    ("queued-second", MIB, passed::queued_second),
    ("queued-peek-offset", MIB, passed::queued_peek_offset),
    ("queued-unaccepted", MIB, passed::queued_unaccepted),
    ("queued-live", MIB, passed::queued_live),
    ("queued-existing", 0, passed::queued_existing),
    ("registered", MIB, passed::registered),
    ("written", MIB, passed::written),
    ("inside", 0, passed::inside),
    ("live-deleted-name", 64 * KIB, traps::live_deleted_name),
    ("hardlink-left", 64 * KIB, traps::hardlink_left),
    ("memfd", MIB, traps::memfd),
    ("sysv-shm", MIB, traps::sysv_shm),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let (Some(name), Some(path)) = (arguments.first(), arguments.get(1)) else {
        eprintln!("usage: holder SITUATION PATH [SIZE]");
        return ExitCode::from(2);
    };
    let Some((_, default, situation)) = SITUATIONS.iter().find(|s| name == s.0) else {
        eprintln!("holder: no such situation: {}", name.display());
        return ExitCode::from(2);
    };
    let size = arguments.get(2).and_then(|s| s.to_str()?.parse().ok()).unwrap_or(*default);
    // Started through a descriptor, it would be called by that number.
    let done = prctl::set_name(c"holder").map_err(io::Error::from);
    let done = done.and_then(|()| die_with_parent());
    let done = done.and_then(|()| situation(Path::new(path), size));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holder: {}: {error}", name.display());
            ExitCode::FAILURE
        }
    }
}

/// Standard input ends with the parent too, but only while somebody reads it.
fn die_with_parent() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// What the ready line says.
#[derive(Default)]
struct Held {
    descriptors: Vec<RawFd>,
    children: Vec<Pid>,
    inode: u64,
    allocated: u64,
    size: u64,
    device: u64,
}

impl Held {
    /// The inode behind `file`, held by something that has no descriptor.
    fn inode_of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self {
            inode: meta.ino(),
            allocated: meta.blocks() * 512,
            size: meta.size(),
            device: meta.dev(),
            ..Self::default()
        })
    }

    /// The inode behind `file`, held by this descriptor.
    fn descriptor(file: &File) -> io::Result<Self> {
        Ok(Self { descriptors: vec![file.as_raw_fd()], ..Self::inode_of(file)? })
    }

    /// Says that the calling thread is in place.
    fn announce(&self) -> io::Result<()> {
        let list = |items: Vec<String>| items.join(",");
        let fd = self.descriptors.first();
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "ready pid={} tid={} fd={} ino={} bytes={} size={} dev={}:{} fds={} children={}",
            std::process::id(),
            nix::unistd::gettid(),
            fd.map_or_else(|| "-".to_owned(), ToString::to_string),
            self.inode,
            self.allocated,
            self.size,
            libc::major(self.device),
            libc::minor(self.device),
            list(self.descriptors.iter().map(ToString::to_string).collect()),
            list(self.children.iter().map(ToString::to_string).collect()),
        )?;
        out.flush()
    }
}

/// Until whoever started this closes the other end.
fn wait_for_end_of_input() -> io::Result<()> {
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

/// Fills with bytes that neither compress away nor become holes, and writes them
/// back so that the number of allocated blocks no longer changes.
fn fill(file: &mut File, size: u64) -> io::Result<()> {
    let mut state = size | 1;
    let mut block = Vec::with_capacity(64 << 10);
    while block.len() < block.capacity() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend_from_slice(&state.to_ne_bytes());
    }
    let mut left = size;
    while left > 0 {
        let part = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        file.write_all(&block[..part])?;
        left -= part as u64;
    }
    file.sync_all()
}
