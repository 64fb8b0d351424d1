// SPDX-License-Identifier: MIT OR Apache-2.0

//! A moment up to which something is waited for. Whoever has pressed Ctrl-C has waited long enough: from then on
//! every wait is short, and the report says what is known.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// A moment to come. It never comes where the clock cannot be set forward that far: adding such a
/// `Duration` to an `Instant` would panic.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    begun: Instant,
    end: Option<Instant>,
}

/// When the run was interrupted.
static INTERRUPTED: OnceLock<Instant> = OnceLock::new();

/// For what answers at all that is enough.
const GRACE: Duration = Duration::from_millis(500);

/// How long to wait before it is looked whether the run was interrupted.
const STEP: Duration = Duration::from_millis(50);

/// Makes every wait in this process short, those that have begun and those to come.
pub fn interrupt() {
    INTERRUPTED.get_or_init(Instant::now);
}

impl Deadline {
    /// `timeout` from now.
    pub fn after(timeout: Duration) -> Self {
        let begun = Instant::now();
        Self { begun, end: begun.checked_add(timeout) }
    }

    /// What is left until then; nothing when it has passed.
    pub fn left(self) -> Duration {
        self.left_if(INTERRUPTED.get().copied())
    }

    fn left_if(self, interrupted: Option<Instant>) -> Duration {
        let until = |moment: Instant| moment.saturating_duration_since(Instant::now());
        let left = self.end.map_or(Duration::MAX, until);
        let grace = interrupted.and_then(|at| at.max(self.begun).checked_add(GRACE));
        grace.map_or(left, |end| left.min(until(end)))
    }

    /// Whether it has passed.
    pub fn has_passed(self) -> bool {
        self.left().is_zero()
    }

    /// How long to wait before looking again how much is left.
    pub fn step(self) -> Duration {
        self.left().min(STEP)
    }

    /// What comes from `receiver` before it has passed.
    pub fn receive<T>(self, receiver: &Receiver<T>) -> Result<T, RecvTimeoutError> {
        loop {
            match receiver.recv_timeout(self.step()) {
                Err(RecvTimeoutError::Timeout) if !self.has_passed() => {}
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_deadline_beyond_the_clock_never_comes() {
        for timeout in [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_secs(1 << 62)] {
            assert!(!Deadline::after(timeout).has_passed());
            assert!(Deadline::after(timeout).left() > Duration::from_secs(1 << 60));
        }
        assert!(Deadline::after(Duration::ZERO).has_passed());
    }

    #[test]
    fn what_comes_in_time_is_received() {
        let (sender, receiver) = mpsc::channel();
        sender.send(7).unwrap();
        assert_eq!(Deadline::after(Duration::MAX).receive(&receiver), Ok(7));
        assert_eq!(Deadline::after(STEP).receive(&receiver), Err(RecvTimeoutError::Timeout));
        drop(sender);
        assert_eq!(Deadline::after(Duration::MAX).receive(&receiver), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn an_interrupt_leaves_a_moment_to_what_answers() {
        let deadline = Deadline::after(Duration::MAX);
        let now = Instant::now();
        assert!(deadline.left_if(Some(now)) <= GRACE);
        let long_ago = now.checked_sub(Duration::from_mins(1)).unwrap_or(now);
        // Begun after it.
        assert!(deadline.left_if(Some(long_ago)) > Duration::ZERO);
        assert!(Deadline::after(Duration::ZERO).left_if(Some(now)).is_zero());
    }
}
