//! Calls that may never return (a dead NFS server, a FUSE daemon that hangs) run
//! on a thread of their own, which is left behind when the time is up.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The result of `call`, or `None` when it has not returned within `timeout`. The thread that is
/// left behind ends with the process: such waits are killable.
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
