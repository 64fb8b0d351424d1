// SPDX-License-Identifier: MIT OR Apache-2.0

//! Calls that may never return (a directory server that is asked for a user's name, a
//! filesystem that has stopped answering) run on a thread of their own, which is left behind when
//! the time is up. What is not known to answer at all is scouted by a child first: `sys::scout`.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::unistd::gettid;

use crate::sys::thread::spawn;

use crate::sys::deadline::Deadline;

/// The result of `call`, or `None` when it has not returned within `timeout`. The thread that is
/// left behind ends with the process.
pub fn within<T: Send + 'static>(timeout: Duration, call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    begin(call).wait(timeout)
}

/// The result of a call that has been begun.
#[derive(Debug)]
pub struct Pending<T>(mpsc::Receiver<T>);

impl<T> Pending<T> {
    /// Waits for it, but no longer than `timeout` from now.
    pub fn wait(self, timeout: Duration) -> Option<T> {
        Deadline::after(timeout).receive(&self.0).ok()
    }
}

/// Begins `call` beside whatever comes next.
pub fn begin<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Pending<T> {
    let (sender, receiver) = mpsc::channel();
    // Nobody receives any more when the time was up.
    detach(move || drop(sender.send(call())));
    Pending(receiver)
}

/// Runs `work` on a thread of its own, which may be left behind; at once, when no thread is to be had.
pub fn detach(work: impl FnOnce() + Send + 'static) {
    // A thread that cannot be started keeps what it was given, unless that is shared.
    let work = Arc::new(Mutex::new(Some(work)));
    let shared = Arc::clone(&work);
    if spawn("detached", move || run(&shared)).is_err() {
        run(&work);
    }
}

/// The result of `call`; `None` when nothing has moved for as long as `patience` says: neither its `progress`, nor
/// the processor time of its thread. Then the thread is left behind.
pub fn while_it_moves<T: Send + 'static, P: PartialEq>(
    progress: impl Fn() -> P,
    patience: impl Fn() -> Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    const TICK: Duration = Duration::from_millis(50);
    let (sender, receiver) = mpsc::channel();
    let thread = Arc::new(AtomicI32::new(0));
    let number = Arc::clone(&thread);
    detach(move || {
        number.store(gettid().as_raw(), Ordering::Relaxed);
        // Nobody receives any more when the time was up.
        drop(sender.send(call()));
    });
    let state = || (progress(), processor_time(thread.load(Ordering::Relaxed)));
    let (mut before, mut since) = (state(), Instant::now());
    loop {
        match receiver.recv_timeout(TICK) {
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            ended => return ended.ok(),
        }
        let now = state();
        if now != before {
            (before, since) = (now, Instant::now());
        } else if since.elapsed() >= patience() {
            return None;
        }
    }
}

/// The processor time of a thread of this process so far, in clock ticks: `proc_pid_stat(5)`.
fn processor_time(thread: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?;
    // The name before it may hold any character.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn run(work: &Mutex<Option<impl FnOnce()>>) {
    let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(work) = work {
        work();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;

    #[test]
    fn a_call_that_hangs_is_left_behind() {
        let (hold, wait) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(10), move || wait.recv()), None);
        drop(hold);
        assert_eq!(within(Duration::from_mins(1), || 7), Some(7));
    }

    #[test]
    fn a_call_that_goes_on_takes_as_long_as_it_takes() {
        let beats_so_far = Arc::new(AtomicI32::new(0));
        let shared = Arc::clone(&beats_so_far);
        let progress = || beats_so_far.load(Ordering::Relaxed);
        let beats = move || {
            for _ in 0..20 {
                sleep(Duration::from_millis(50));
                shared.fetch_add(1, Ordering::Relaxed);
            }
            7
        };
        assert_eq!(while_it_moves(progress, || Duration::from_millis(500), beats), Some(7));
        let computes = || {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(1) {}
            7
        };
        assert_eq!(while_it_moves(progress, || Duration::from_millis(500), computes), Some(7));
        let (hold, wait) = mpsc::channel::<()>();
        assert_eq!(while_it_moves(progress, || Duration::from_millis(200), move || wait.recv()), None);
        drop(hold);
    }
}
