// SPDX-License-Identifier: MIT OR Apache-2.0

//! How long is waited for many things of which each may not answer: not for each of them as long as for one.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Gets shorter with every wait that was in vain.
#[derive(Debug)]
pub(super) struct Patience {
    timeout: Duration,
    left: Mutex<Duration>,
}

impl Patience {
    /// Enough to wait twice for as long as `timeout`.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, left: Mutex::new(timeout.saturating_mul(2)) }
    }

    /// Makes a call that waits for so long at most.
    pub(super) fn spend<T>(&self, call: impl FnOnce(Duration) -> T) -> T {
        let left = || self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (begun, most) = (Instant::now(), self.timeout.min(*left()));
        let result = call(most);
        if begun.elapsed() >= most {
            let mut left = left();
            *left = left.saturating_sub(most);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn waits_in_vain_add_up_and_answers_do_not() {
        let patience = Patience::new(Duration::from_millis(20));
        let begun = Instant::now();
        for _ in 0..1000 {
            patience.spend(sleep);
        }
        assert!(begun.elapsed() < Duration::from_secs(1));
        let patience = Patience::new(Duration::from_mins(1));
        (0..1000).for_each(|_| patience.spend(|_| ()));
        assert_eq!(patience.spend(|most| most), Duration::from_mins(1));
    }
}
