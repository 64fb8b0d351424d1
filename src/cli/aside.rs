// SPDX-License-Identifier: MIT OR Apache-2.0

//! A command that works in a process of its own, so that Ctrl-C ends it even while it waits for a filesystem
//! that does not answer. This process shows how far that one is, and passes on what it has to say.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::actions::Ending;
use super::progress::Progress;
use super::{Exit, exit, fail};
use crate::commands::destination::abandoned;
use crate::commands::refusal::Refusal;
use crate::model::errno::describe;
use crate::model::escape;
use crate::model::monitor::{Monitor, State};
use crate::sys::memory;
use crate::sys::worker::{self, DIED, Descriptors, Worker};

/// How often the other process tells how far it is.
const INTERVAL: Duration = Duration::from_millis(100);

/// What it tells, a line each.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    At(State),
    Asks(String),
    Ended(Ending),
}

/// Asks whoever sits at the terminal: an error unless the answer is yes.
pub(super) type Ask<'a> = &'a dyn Fn(&str) -> Result<(), Refusal>;

/// How long a command is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// As long as it takes: reading and writing may be slow. When nothing moves for twice as long as `timeout`
    /// (whoever looks whether something answers, for as long as that, has the first word), that is told. The
    /// first Ctrl-C asks it to end, and gives it up if nothing moves then, unless only the disk has to take what
    /// is done; a second one ends it at once.
    ForEver { shows_progress: bool },
    /// Until nothing has moved for several times `timeout`. Ctrl-C ends it at once: before the answer nothing was
    /// done, and what is done then is a single step.
    Limited,
}

/// How many times `timeout` nothing may move: while everything that may not answer is waited for with a limit of
/// its own, and while it is acted.
const MOST_LOOKING: u32 = 10;
const MOST_ACTING: u32 = 3;

/// Runs `work`, which may `ask`, and prints what it ends with.
pub(super) fn run(
    work: impl Fn(&Monitor, Ask<'_>) -> Ending,
    ask: Ask<'_>,
    patience: Patience,
    timeout: Duration,
) -> Exit {
    let monitor = Monitor::default();
    if patience != Patience::Limited
        && let Err(error) = exit::cancel_on_interrupt(&monitor)
    {
        return fail(&format!("SIGINT: {}", describe(&error)));
    }
    let ending = if let Ok(worker) = worker::start(Descriptors::None, |line| aside(line, &work)) {
        let progress = Some(patience.show_progress(&monitor));
        let (worker, monitor, moved) = (&worker, &monitor, Instant::now());
        let (was_told, was_asked) = (false, false);
        Front { worker, monitor, ask, patience, timeout, progress, moved, was_told, was_asked }.wait()
    } else {
        // Where no child can be had, going without one is better than not at all.
        let _progress = patience.show_progress(&monitor);
        work(&monitor, ask)
    };
    ending.print()
}

impl Patience {
    fn show_progress(self, monitor: &Monitor) -> Progress {
        Progress::show(monitor, self == Self::ForEver { shows_progress: true })
    }
}

/// The other process: works, and tells how far it is until it is done. The end of the line is Ctrl-C.
fn aside(line: UnixStream, work: impl Fn(&Monitor, Ask<'_>) -> Ending) {
    let monitor = Monitor::default();
    let ((tell, told), (answer, answers)) = (channel(), channel());
    let shared = monitor.clone();
    let Ok(reporter) =
        thread::Builder::new().name("reporter".into()).spawn(move || report(line, &shared, &told, &answer))
    else {
        return;
    };
    let ask = |question: &str| {
        let asked = tell.send(Message::Asks(question.to_owned())).is_ok();
        // Whoever does not say yes ends this process.
        if asked && answers.recv().is_ok() { Ok(()) } else { Err(Refusal::Interrupted) }
    };
    let ending = work(&monitor, &ask);
    // The reporter has ended only when nobody listens any more.
    let _ = tell.send(Message::Ended(ending));
    let _ = reporter.join();
}

fn report(mut line: UnixStream, monitor: &Monitor, messages: &Receiver<Message>, answer: &Sender<()>) {
    loop {
        let message = match messages.recv_timeout(INTERVAL) {
            Ok(message) => message,
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
        let goes_on = match message {
            Message::At(_) => true,
            Message::Asks(_) => line.read_exact(&mut [0]).is_ok() && answer.send(()).is_ok(),
            Message::Ended(_) => false,
        };
        if told.is_err() || !goes_on {
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
    ask: Ask<'a>,
    patience: Patience,
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
    /// The other process has ended before it said how. It has no standard error to say why.
    fn died(&self) -> Ending {
        let why = if self.worker.lacks_memory(self.timeout) { memory::MESSAGE } else { DIED };
        Ending::failed(why)
    }

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
                Err(_) => return self.died(),
                Ok(_) => match serde_json::from_slice(&text) {
                    Ok(Message::At(state)) => {
                        self.is_at(state);
                        text.clear();
                    }
                    Ok(Message::Asks(question)) => {
                        text.clear();
                        if let Err(refusal) = self.ask(&question) {
                            self.worker.abandon();
                            self.worker.wait(self.timeout);
                            return Ending::failed(&refusal.to_string());
                        }
                    }
                    Ok(Message::Ended(ending)) => {
                        // What it had open may be in the way of an unmount.
                        self.worker.wait(self.timeout);
                        return ending;
                    }
                    Err(_) => return self.died(),
                },
            }
            if self.monitor.is_cancelled() && !self.was_asked {
                // If the line is gone, the next look at it tells.
                let _ = self.worker.line.shutdown(Shutdown::Write);
                (self.moved, self.was_told, self.was_asked) = (Instant::now(), false, true);
            }
            if let Some(ending) = self.has_stalled() {
                return ending;
            }
        }
    }

    /// What to do when nothing has moved for too long; how it ends, if it is given up.
    fn has_stalled(&mut self) -> Option<Ending> {
        let acts = self.monitor.state().settling;
        let times = match (self.patience, self.was_asked, acts) {
            (Patience::ForEver { .. }, true, _) => 1,
            (Patience::ForEver { .. }, false, _) => 2,
            (Patience::Limited, _, false) => MOST_LOOKING,
            (Patience::Limited, _, true) => MOST_ACTING,
        };
        let limit = self.timeout.saturating_mul(times);
        if self.moved.elapsed() < limit {
            return None;
        }
        if self.patience == Patience::Limited {
            self.worker.abandon();
            let fate = if acts { "what has been freed is not known" } else { "nothing was done" };
            let limit = humantime::format_duration(limit);
            return Some(Ending::failed(&format!("a filesystem has given no answer for {limit}; {fate}")));
        }
        if self.was_asked && !acts {
            return Some(give_up(self.worker, self.timeout));
        }
        if !self.was_told {
            self.tell(limit);
        }
        None
    }

    /// Asks here, where the terminal is, and has the worker go on if the answer is yes.
    fn ask(&mut self, question: &str) -> Result<(), Refusal> {
        // A bar would stand in the same line.
        drop(self.progress.take());
        (self.ask)(question)?;
        // If the line is gone, the next look at it tells.
        let _ = (&self.worker.line).write_all(&[0]);
        (self.moved, self.progress) = (Instant::now(), Some(self.patience.show_progress(self.monitor)));
        Ok(())
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
        self.progress = Some(self.patience.show_progress(self.monitor));
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
