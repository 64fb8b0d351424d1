// SPDX-License-Identifier: MIT OR Apache-2.0

//! The process that was started only waits; a child does the work. A thread that waits for a server which has
//! taken a request cannot be killed, and a process ends only when all its threads have. So it is the child that
//! may have to stay behind: this process ends when the work is done, and at the second Ctrl-C.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::SIGINT;
use signal_hook::low_level::pipe;

use super::{Exit, exit, fail};
use crate::model::monitor::Monitor;
use crate::sys::deadline::{self, Deadline};
use crate::sys::process::is_ready;
use crate::sys::worker::{self, Descriptors, Worker};

/// How long the child may take to let go of what it has open, at the end and at the second Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs `work`, which prints what it finds, and returns how it ends.
pub(super) fn run(work: impl Fn(Interrupts) -> Exit) -> Exit {
    match worker::start(Descriptors::All, |line| end(&line, work(Interrupts(line.try_clone().ok())))) {
        Ok(worker) => Front { worker, interrupts: 0 }.wait().unwrap_or_else(|_| fail(worker::DIED)),
        // Where no child can be had, going without one is better than not at all.
        Err(_) => work(Interrupts(None)),
    }
}

/// How Ctrl-C comes to where the work is done: as a byte of a line, whose end is that of the other process; as a
/// signal where there is no other process.
pub(super) struct Interrupts(Option<UnixStream>);

impl Interrupts {
    /// What the first Ctrl-C cancels.
    pub(super) fn watch(self) -> io::Result<Monitor> {
        let monitor = Monitor::default();
        let Some(line) = self.0 else {
            exit::cancel_on_interrupt(&monitor)?;
            return Ok(monitor);
        };
        let cancelled = monitor.clone();
        let listener = thread::Builder::new().name("interrupt".into());
        if listener.spawn(move || listen(&line, &cancelled)).is_err() {
            // Then nobody hears of Ctrl-C here, and the end of the other process has to do.
            worker::die_with_parent();
        }
        Ok(monitor)
    }
}

fn listen(line: &UnixStream, monitor: &Monitor) {
    let hears = |mut line: &UnixStream| line.read(&mut [0]).is_ok_and(|length| length > 0);
    if hears(line) {
        monitor.cancel();
        deadline::interrupt();
        if hears(line) {
            end(line, Exit::Interrupted);
        }
    }
    worker::let_go_of_inherited();
    worker::die();
}

/// First it lets go of what it prints to: else whoever reads that waits for a process that may be stuck.
fn end(mut line: &UnixStream, exit: Exit) {
    worker::let_go_of_inherited();
    // Nobody listens where the other process has gone.
    let _ = line.write_all(&[exit.code()]);
}

/// This process, while the other works.
struct Front {
    worker: Worker,
    /// How many there were.
    interrupts: usize,
}

impl Front {
    /// Waits for the end of the work, and passes Ctrl-C on.
    fn wait(mut self) -> io::Result<Exit> {
        let (interrupt, notifier) = UnixStream::pair()?;
        pipe::register(SIGINT, notifier)?;
        loop {
            let mut ends =
                [&self.worker.line, &interrupt].map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
            // A signal cuts it short; what it leaves in `interrupt` is met the next time.
            let ready = poll(&mut ends, PollTimeout::NONE);
            let [ended, interrupted] = ends.map(|end| ready.is_ok() && end.any() == Some(true));
            if ended {
                return self.exit();
            }
            if interrupted {
                self.interrupted(&interrupt)?;
            }
            if self.interrupts > 1 && !is_ready(&self.worker.line, Deadline::after(PATIENCE)) {
                return Ok(Exit::Interrupted);
            }
        }
    }

    fn interrupted(&mut self, mut interrupt: &UnixStream) -> io::Result<()> {
        let count = interrupt.read(&mut [0; 16])?;
        self.interrupts = self.interrupts.saturating_add(count);
        // It may have ended meanwhile.
        let _ = (&self.worker.line).write_all(&[0; 16][..count]);
        Ok(())
    }

    fn exit(&self) -> io::Result<Exit> {
        let mut code = [0];
        if let Err(error) = (&self.worker.line).read_exact(&mut code) {
            // Then it has said so itself.
            return if self.worker.lacks_memory(PATIENCE) { Ok(Exit::Failure) } else { Err(error) };
        }
        if self.interrupts < 2 {
            // What it had open may be in the way of an unmount.
            self.worker.wait(PATIENCE);
        }
        Ok(Exit::from_code(code[0]))
    }
}
