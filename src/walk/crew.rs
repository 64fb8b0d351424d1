// SPDX-License-Identifier: MIT OR Apache-2.0

//! The threads of a walk: how many there are, and what becomes of one that does not return from a system call.

use std::num::NonZero;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

use super::Shared;
use super::notes::{Left, Notes};
use super::queue::Waiting;
use super::worker::Worker;
use crate::sys::thread::spawn;

/// How many threads to start with and to end with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Threads {
    first: usize,
    most: usize,
    cores: usize,
}

/// On a cold cache the threads wait for the disk, and a queue of requests makes it faster: most of
/// the gain comes with the first eight, on any number of cores.
const WAITING_THREADS: usize = 32;
/// Descriptors that one thread has in hand at most: what it read last, a directory, its parent, two while
/// reopening.
const IN_HAND: usize = 5;
/// Left for everything else in the process.
const RESERVED_DESCRIPTORS: usize = 16;
/// More than the depth of any tree met in practice, times the threads.
const DESCRIPTORS: usize = 4096;

/// The number of threads, and of directories kept open, that the limit on open files allows. `newest` is the
/// descriptor that was opened last: the kernel gives the lowest free number, so that about as many are open.
pub(super) fn limits(fixed: Option<NonZero<usize>>, newest: BorrowedFd<'_>) -> (Threads, usize) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(256, |(soft, _)| soft);
    let open = usize::try_from(newest.as_raw_fd()).unwrap_or(0) + 1;
    let spare = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(open + RESERVED_DESCRIPTORS);
    let allowed = (spare / (2 * IN_HAND)).max(1);
    let most = fixed.map_or(WAITING_THREADS.max(cores), NonZero::get).min(allowed);
    let first = fixed.map_or(cores, NonZero::get).min(allowed);
    (Threads { first, most, cores }, spare.saturating_sub(most * IN_HAND).clamp(1, DESCRIPTORS))
}

/// How often to look whether the threads wait for the disk.
const TICK: Duration = Duration::from_millis(5);
/// The share of the cores' time below which they do.
const BUSY_PERCENT: u128 = 70;
/// One thread.
struct Member {
    notes: Arc<Notes>,
    thread: JoinHandle<()>,
    /// What its notes said last, and since when.
    beats: u32,
    since: Instant,
}

struct Crew {
    shared: Arc<Shared>,
    members: Vec<Member>,
    /// How many there ever were.
    started: usize,
    left: Vec<Left>,
}

/// Runs workers until all is read. One that waits for a single system call for as long as `timeout` is left
/// behind with its thread: the others do what it had still to do. With the last of them the walk ends.
pub(super) fn run(shared: &Arc<Shared>, threads: Threads, timeout: Duration) -> Vec<Left> {
    let mut crew = Crew { shared: Arc::clone(shared), members: Vec::new(), started: 0, left: Vec::new() };
    crew.start(threads.first);
    if crew.members.is_empty() {
        crew.work_here();
    }
    let (mut clock, mut spent) = (Instant::now(), cpu_time());
    loop {
        let waiting = shared.queue.settle(TICK);
        crew.leave_behind(timeout);
        if waiting == Waiting::All || crew.members.is_empty() {
            return crew.finish();
        }
        let (elapsed, used) = (clock.elapsed(), cpu_time().saturating_sub(spent));
        (clock, spent) = (clock + elapsed, spent + used);
        let whole = elapsed.as_micros() * threads.cores.min(crew.started) as u128;
        if waiting == Waiting::None
            && crew.started < threads.most
            && used.as_micros() * 100 < whole * BUSY_PERCENT
        {
            crew.start(crew.started.min(threads.most - crew.started));
        }
    }
}

impl Crew {
    fn start(&mut self, count: usize) {
        for _ in 0..count {
            let (shared, notes) = (Arc::clone(&self.shared), Arc::new(Notes::new(self.shared.names)));
            shared.queue.join();
            let own = Arc::clone(&notes);
            match spawn("walk", move || Worker::new(&shared, &own).run()) {
                Ok(thread) => {
                    self.members.push(Member { notes, thread, beats: 0, since: Instant::now() });
                    self.started += 1;
                }
                Err(_) => self.shared.queue.leave(),
            }
        }
    }

    /// No thread is to be had: a limit on processes or memory.
    fn work_here(&mut self) {
        let notes = Notes::new(self.shared.names);
        self.shared.queue.join();
        Worker::new(&self.shared, &notes).run();
        self.left.push(notes.take());
    }

    fn leave_behind(&mut self, timeout: Duration) {
        let patience = self.shared.monitor.patience(timeout);
        let (queue, left) = (&self.shared.queue, &mut self.left);
        self.members.retain_mut(|member| {
            let beats = member.notes.beats();
            if beats != member.beats {
                (member.beats, member.since) = (beats, Instant::now());
            }
            if member.since.elapsed() < patience {
                return true;
            }
            match member.notes.leave_behind() {
                // It waits for work, and not for a filesystem.
                None => {
                    member.since = Instant::now();
                    true
                }
                Some(mut behind) => {
                    queue.give(&mut behind.stack);
                    queue.leave();
                    left.push(behind);
                    false
                }
            }
        });
    }

    fn finish(mut self) -> Vec<Left> {
        for member in self.members {
            // All wait, and end now.
            drop(member.thread.join());
            self.left.push(member.notes.take());
        }
        self.left
    }
}

/// The processor time of this process so far.
fn cpu_time() -> Duration {
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
    let usage = getrusage(UsageWho::RUSAGE_SELF);
    usage.map_or(Duration::ZERO, |usage| {
        Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
    })
}
