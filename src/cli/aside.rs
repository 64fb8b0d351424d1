//! A command that works in a process of its own, so that Ctrl-C ends it even while it waits for a filesystem
//! that does not answer. This process shows how far that one is, and passes on what it has to say.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::actions::Ending;
use super::progress::Progress;
use super::{Exit, exit, fail};
use crate::commands::destination::abandoned;
use crate::commands::error::describe;
use crate::model::escape;
use crate::model::monitor::{Monitor, State};
use crate::sys::worker::{self, DIED, Descriptors, Worker};

/// How often the other process tells how far it is.
const INTERVAL: Duration = Duration::from_millis(100);

/// What it tells, a line each.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    At(State),
    Ended(Ending),
}

/// Runs `work`, and prints what it ends with. When nothing moves for twice as long as `timeout` (whoever looks
/// whether something answers, for as long as that, has the first word), that is told. After Ctrl-C it is given
/// up then, unless only the disk has to take what is done: a second Ctrl-C ends it at once.
pub(super) fn run(work: impl Fn(&Monitor) -> Ending, shows_progress: bool, timeout: Duration) -> Exit {
    let monitor = Monitor::default();
    if let Err(error) = exit::cancel_on_interrupt(&monitor) {
        return fail(&format!("SIGINT: {}", describe(&error)));
    }
    let ending = if let Ok(worker) = worker::start(Descriptors::None, |line| aside(line, &work)) {
        let progress = Some(Progress::show(&monitor, shows_progress));
        let (worker, monitor, moved) = (&worker, &monitor, Instant::now());
        let (was_told, was_asked) = (false, false);
        Front { worker, monitor, shows_progress, timeout, progress, moved, was_told, was_asked }.wait()
    } else {
        // Where no child can be had, going without one is better than not at all.
        let _progress = Progress::show(&monitor, shows_progress);
        work(&monitor)
    };
    ending.print()
}

/// The other process: works, and tells how far it is until it is done. The end of the line is Ctrl-C.
fn aside(line: UnixStream, work: impl Fn(&Monitor) -> Ending) {
    let monitor = Monitor::default();
    let (done, ending) = channel();
    let shared = monitor.clone();
    let Ok(reporter) =
        thread::Builder::new().name("reporter".into()).spawn(move || report(line, &shared, &ending))
    else {
        return;
    };
    // The reporter has ended only when nobody listens any more.
    let _ = done.send(work(&monitor));
    let _ = reporter.join();
}

fn report(mut line: UnixStream, monitor: &Monitor, ending: &Receiver<Ending>) {
    loop {
        let message = match ending.recv_timeout(INTERVAL) {
            Ok(ending) => Message::Ended(ending),
            Err(RecvTimeoutError::Timeout) => Message::At(monitor.state()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if is_closed(&line) {
            monitor.cancel();
        }
        let told = serde_json::to_vec(&message).map_err(io::Error::from).and_then(|mut text| {
            text.push(b'\n');
            line.write_all(&text)
        });
        if told.is_err() || matches!(message, Message::Ended(_)) {
            return;
        }
    }
}

fn is_closed(line: &UnixStream) -> bool {
    let mut ends = [PollFd::new(line.as_fd(), PollFlags::POLLIN)];
    poll(&mut ends, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// This process, while the other works.
struct Front<'a> {
    worker: &'a Worker,
    monitor: &'a Monitor,
    shows_progress: bool,
    timeout: Duration,
    progress: Option<Progress>,
    /// When it last got any further.
    moved: Instant,
    /// Whether it has been told since that it does not.
    was_told: bool,
    /// Whether the worker knows of Ctrl-C.
    was_asked: bool,
}

impl Front<'_> {
    /// Waits for the end of the work.
    fn wait(mut self) -> Ending {
        // Without it Ctrl-C would be noticed later.
        let _ = self.worker.line.set_read_timeout(Some(INTERVAL));
        let mut line = BufReader::new(&self.worker.line);
        let mut text = Vec::new();
        loop {
            match line.read_until(b'\n', &mut text) {
                // What has come of a line stays in `text`.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return Ending::failed(DIED),
                Ok(_) => match serde_json::from_slice(&text) {
                    Ok(Message::At(state)) => {
                        self.is_at(state);
                        text.clear();
                    }
                    Ok(Message::Ended(ending)) => {
                        // What it had open may be in the way of an unmount.
                        self.worker.wait(self.timeout);
                        return ending;
                    }
                    Err(_) => return Ending::failed(DIED),
                },
            }
            if self.monitor.is_cancelled() && !self.was_asked {
                // If the line is gone, the next look at it tells.
                let _ = self.worker.line.shutdown(Shutdown::Write);
                (self.moved, self.was_told, self.was_asked) = (Instant::now(), false, true);
            }
            let patience = if self.was_asked { self.timeout } else { self.timeout.saturating_mul(2) };
            if self.moved.elapsed() < patience {
                continue;
            }
            if self.was_asked && !self.monitor.state().settling {
                return give_up(self.worker, self.timeout);
            }
            if !self.was_told {
                self.tell(patience);
            }
        }
    }

    fn is_at(&mut self, state: State) {
        if state != self.monitor.state() {
            self.monitor.set(state);
            (self.moved, self.was_told) = (Instant::now(), false);
        }
    }

    /// Says that nothing goes on, and how that can be ended.
    fn tell(&mut self, waited: Duration) {
        self.was_told = true;
        // A bar would stand in the same line.
        drop(self.progress.take());
        let waited = humantime::format_duration(waited);
        let again = if self.was_asked { "another Ctrl-C" } else { "Ctrl-C" };
        fail(&format!("no progress for {waited}: a filesystem may not be answering ({again} gives up)"));
        self.progress = Some(Progress::show(self.monitor, self.shows_progress));
    }
}

/// Leaves the worker behind. What it wrote without a name goes with it.
fn give_up(worker: &Worker, timeout: Duration) -> Ending {
    // Before it ends, because they are found through its descriptors.
    let mut left = abandoned::of(worker.pid());
    left.retain(|left| !left.remove(timeout));
    worker.abandon();
    let left: Vec<String> = left.iter().map(|left| escape::path(&left.path)).collect();
    let fate = if left.is_empty() {
        "the unfinished copy was removed".to_owned()
    } else {
        format!("left behind: {}", left.join(", "))
    };
    Ending::interrupted(&format!("interrupted while a filesystem did not answer; {fate}"))
}
