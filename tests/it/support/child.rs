// SPDX-License-Identifier: MIT OR Apache-2.0

//! Child processes that cannot outlive their test or block it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

/// A program that can be started even where the user it runs as may not enter the
/// directory it lies in: through a descriptor that the test keeps open.
pub(crate) fn reachable(program: &Path, kept: &'static OnceLock<File>) -> String {
    let file = kept
        .get_or_init(|| File::open(program).unwrap_or_else(|error| panic!("{}: {error}", program.display())));
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// The child dies with the thread that starts it and meets SIGINT as if started
/// from a shell, whatever the test inherited.
pub(crate) fn tie_to_test(command: &mut Command, open_files: Option<u64>) {
    use std::os::unix::process::CommandExt;
    let prepare = move || -> io::Result<()> {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // SAFETY: the default action is no handler of this program.
        unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }?;
        if let Some(limit) = open_files {
            setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?;
        }
        Ok(())
    };
    // SAFETY: `prepare` makes three system calls and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

/// Waits for the end, but not forever.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: takes two numbers and returns a new descriptor or an error.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(nix::errno::Errno::result(fd).unwrap()).unwrap();
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut ended = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut ended, left) {
            Ok(0) => return None,
            Ok(_) => return Some(child.wait().unwrap()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

/// Everything that comes out of a pipe or a terminal, read in the background.
pub(crate) struct Collected(JoinHandle<Vec<u8>>);

impl Collected {
    pub(crate) fn new(mut from: impl Read + Send + 'static) -> Self {
        Self(thread::spawn(move || {
            let mut bytes = vec![];
            // A terminal ends with EIO when its last writer is gone.
            drop(from.read_to_end(&mut bytes));
            bytes
        }))
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.join().unwrap()
    }
}

/// Both ends of a terminal so many columns wide.
pub(crate) fn terminal(columns: u16) -> (File, OwnedFd) {
    let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut master, mut slave) = (-1, -1);
    let (name, settings) = (std::ptr::null_mut(), std::ptr::null());
    // SAFETY: writes two descriptors, reads one `winsize`; the others may be null.
    let done = unsafe { libc::openpty(&raw mut master, &raw mut slave, name, settings, &raw const size) };
    nix::errno::Errno::result(done).unwrap();
    // SAFETY: the descriptor is new and nobody else's.
    let master = unsafe { File::from_raw_fd(master) };
    // SAFETY: so is this one.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    (master, slave)
}
