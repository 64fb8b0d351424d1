// SPDX-License-Identifier: MIT OR Apache-2.0

//! Signals that end a process while it has something half done: held off for a moment, or made to take
//! away what would be left behind.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use nix::sys::prctl::{get_pdeathsig, set_pdeathsig};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::{getpid, getppid};

/// Signals whose default action ends the process and that somebody may send: signal(7). Not SIGINT, for
/// which the command has an action of its own, nor SIGPIPE, which Rust's runtime ignores.
const ENDING: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGALRM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGXCPU,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
];

/// Makes a write beyond the limit on the size of files (`ulimit -f`) fail with `EFBIG`, which can be told,
/// instead of ending the process: setrlimit(2), `RLIMIT_FSIZE`.
pub fn report_size_limit() {
    set(Signal::SIGXFSZ, SigHandler::SigIgn);
}

/// Sets the action and returns the previous one.
fn set(signal: Signal, handler: SigHandler) -> Option<SigAction> {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the action is to ignore the signal, or `remove_and_end`, which is async-signal-safe.
    unsafe { sigaction(signal, &action) }.ok()
}

fn set_back(signal: Signal, action: Option<&SigAction>) {
    if let Some(action) = action {
        // SAFETY: it was in effect before.
        let _ = unsafe { sigaction(signal, action) };
    }
}

/// Does `work`, which takes no time worth mentioning, and lets no signal but SIGKILL end the process
/// meanwhile, nor the end of its parent.
pub fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    let parent = getppid();
    let on_death = get_pdeathsig().ok().flatten();
    // These calls fail only for numbers that are no signals.
    let _ = set_pdeathsig(None);
    let before = ENDING.map(|signal| set(signal, SigHandler::SigIgn));
    let result = work();
    for (signal, action) in ENDING.into_iter().zip(&before) {
        set_back(signal, action.as_ref());
    }
    let _ = set_pdeathsig(on_death);
    if let Some(signal) = on_death
        && getppid() != parent
    {
        let _ = kill(getpid(), signal);
    }
    result
}

/// Where the file is that `remove_and_end` removes: a descriptor of its directory, or -1.
static DIRECTORY: AtomicI32 = AtomicI32::new(-1);
/// Its name, with a NUL at the end.
static NAME: [AtomicU8; 64] = [const { AtomicU8::new(0) }; 64];

/// While it is there, a signal that ends the process removes a file first.
pub struct Removal {
    before: [Option<SigAction>; ENDING.len()],
    on_death: Option<Signal>,
}

impl Removal {
    /// Has `name` in `directory` removed, of which there is one at a time. The directory has to stay open.
    /// `None` where the name is too long.
    pub fn on_signal(directory: BorrowedFd<'_>, name: &CStr) -> Option<Self> {
        let bytes = name.to_bytes_with_nul();
        for (place, byte) in NAME.get(..bytes.len())?.iter().zip(bytes) {
            place.store(*byte, Ordering::Relaxed);
        }
        DIRECTORY.store(directory.as_raw_fd(), Ordering::Release);
        let before = ENDING.map(|signal| set(signal, SigHandler::Handler(remove_and_end)));
        // A child that dies with its parent has to be told so by a signal that it can catch.
        let on_death = get_pdeathsig().ok().flatten();
        if on_death.is_some() {
            let _ = set_pdeathsig(Signal::SIGTERM);
        }
        Some(Self { before, on_death })
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        DIRECTORY.store(-1, Ordering::Release);
        if self.on_death.is_some() {
            let _ = set_pdeathsig(self.on_death);
        }
        for (signal, action) in ENDING.into_iter().zip(&self.before) {
            set_back(signal, action.as_ref());
        }
    }
}

/// Removes the file and lets the signal do what it does by default. Calls only what signal-safety(7) lists.
extern "C" fn remove_and_end(signal: libc::c_int) {
    let directory = DIRECTORY.swap(-1, Ordering::AcqRel);
    if directory >= 0 {
        let mut name = [0_u8; NAME.len()];
        for (byte, place) in name.iter_mut().zip(&NAME) {
            *byte = place.load(Ordering::Relaxed);
        }
        // SAFETY: the name ends with a NUL, and lives through the call.
        unsafe { libc::unlinkat(directory, name.as_ptr().cast(), 0) };
    }
    // SAFETY: the default action runs no code of this program.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: takes a number. The signal comes when this returns.
    unsafe { libc::raise(signal) };
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use nix::sys::prctl;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    /// How a child ends that does this, which makes system calls only.
    fn ends(work: impl FnOnce()) -> WaitStatus {
        // SAFETY: the child makes system calls only and allocates nothing, whatever locks other threads hold.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                work();
                // SAFETY: ends the child without running anything of the parent's.
                unsafe { libc::_exit(7) }
            }
            ForkResult::Parent { child } => waitpid(child, None).unwrap(),
        }
    }

    fn raise(signal: Signal) {
        let _ = kill(getpid(), signal);
    }

    #[test]
    fn a_signal_that_ends_the_process_removes_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let (path, opened) = (directory.path().join("name"), File::open(directory.path()).unwrap());
        for signal in ENDING {
            fs::write(&path, "").unwrap();
            let ended = ends(|| {
                let _removal = Removal::on_signal(opened.as_fd(), c"name");
                raise(signal);
            });
            assert!(matches!(ended, WaitStatus::Signaled(_, by, _) if by == signal), "{ended:?}");
            assert!(!path.exists(), "{signal}");
        }
        // Not when that is over.
        fs::write(&path, "").unwrap();
        let ended = ends(|| {
            drop(Removal::on_signal(opened.as_fd(), c"name"));
            raise(Signal::SIGTERM);
        });
        assert!(matches!(ended, WaitStatus::Signaled(_, Signal::SIGTERM, _)) && path.exists());
    }

    #[test]
    fn what_is_not_to_be_disturbed_is_done() {
        let ended = ends(|| undisturbed(|| ENDING.into_iter().for_each(raise)));
        assert!(matches!(ended, WaitStatus::Exited(_, 7)), "{ended:?}");
        let ended = ends(|| {
            undisturbed(|| raise(Signal::SIGTERM));
            raise(Signal::SIGHUP);
        });
        assert!(matches!(ended, WaitStatus::Signaled(_, Signal::SIGHUP, _)), "{ended:?}");
    }

    #[test]
    fn the_end_of_the_parent_counts_again_afterwards() {
        let ended = ends(|| {
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            undisturbed(|| ());
            if prctl::get_pdeathsig() != Ok(Some(Signal::SIGKILL)) {
                raise(Signal::SIGUSR1);
            }
        });
        assert!(matches!(ended, WaitStatus::Exited(_, 7)), "{ended:?}");
    }
}
