//! Calls that may never return (a directory server that is asked for a user's name, a
//! filesystem that has stopped answering) run on a thread of their own, which is left behind when
//! the time is up. What is not known to answer at all is scouted by a child first: `sys::scout`.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

pub use crate::sys::deadline::Deadline;

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
        self.0.recv_timeout(timeout).ok()
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
    if thread::Builder::new().name("detached".into()).spawn(move || run(&shared)).is_err() {
        run(&work);
    }
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

    #[test]
    fn a_call_that_hangs_is_left_behind() {
        let (hold, wait) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(10), move || wait.recv()), None);
        drop(hold);
        assert_eq!(within(Duration::from_mins(1), || 7), Some(7));
    }
}
