//! A moment up to which something is waited for.

use std::time::{Duration, Instant};

/// A moment to come. It never comes where the clock cannot be set forward that far: adding such a
/// `Duration` to an `Instant` would panic.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// `timeout` from now.
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// What is left until then; nothing when it has passed.
    pub fn left(self) -> Duration {
        self.0.map_or(Duration::MAX, |moment| moment.saturating_duration_since(Instant::now()))
    }

    /// Whether it has passed.
    pub fn has_passed(self) -> bool {
        self.left().is_zero()
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

    /// The standard library waits without a limit then, and does not add it up either.
    #[test]
    fn what_is_left_can_be_waited_for() {
        let (sender, receiver) = mpsc::channel();
        sender.send(7).unwrap();
        assert_eq!(receiver.recv_timeout(Deadline::after(Duration::MAX).left()), Ok(7));
    }
}
