//! Calls that may never return (a directory server that is asked for a user's name, a
//! filesystem that has stopped answering) run on a thread of their own, which is left behind when
//! the time is up. What is not known to answer at all is scouted by a child first: `sys::scout`.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The result of `call`, or `None` when it has not returned within `timeout`. The thread that is
/// left behind ends with the process.
pub fn within<T: Send + 'static>(timeout: Duration, call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name("deadline".into());
    // Nobody receives any more when the time was up.
    thread.spawn(move || drop(sender.send(call()))).ok()?;
    receiver.recv_timeout(timeout).ok()
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
