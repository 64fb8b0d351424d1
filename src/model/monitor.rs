// SPDX-License-Identifier: MIT OR Apache-2.0

//! How a run and whoever started it talk while it lasts: progress one way, the wish
//! to stop the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::bytes::Bytes;

/// How long an answer may take still, when the run is to end early.
const LAST_CALL: Duration = Duration::from_millis(500);

/// Shared between the run and its observer; clones see the same run.
#[derive(Clone, Debug, Default)]
pub struct Monitor {
    bytes: Arc<AtomicU64>,
    expected: Arc<AtomicU64>,
    beats: Arc<AtomicU64>,
    settling: Arc<AtomicBool>,
    cancelled: Arc<AtomicBool>,
}

/// How far a run is at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    bytes: u64,
    expected: u64,
    beats: u64,
    /// What is done is on its way to the disk: it would be a pity to give up now.
    pub settling: bool,
}

impl Monitor {
    /// More bytes have been accounted for.
    pub fn advance(&self, bytes: Bytes) {
        add(&self.bytes, bytes);
    }

    /// More bytes are to be accounted for.
    pub fn expect(&self, bytes: Bytes) {
        add(&self.expected, bytes);
    }

    /// Bytes accounted for so far, and bytes in all.
    pub fn progress(&self) -> (Bytes, Bytes) {
        (Bytes(self.bytes.load(Ordering::Relaxed)), Bytes(self.expected.load(Ordering::Relaxed)))
    }

    /// It goes on, though no bytes are accounted for.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Says whether all that is left is to bring it to the disk, however long that takes.
    pub fn settle(&self, settling: bool) {
        self.settling.store(settling, Ordering::Relaxed);
    }

    /// How far it is. As long as it goes on, that changes.
    pub fn state(&self) -> State {
        let [bytes, expected, beats] =
            [&self.bytes, &self.expected, &self.beats].map(|number| number.load(Ordering::Relaxed));
        State { bytes, expected, beats, settling: self.settling.load(Ordering::Relaxed) }
    }

    /// Shows a run in another process, which is that far.
    pub fn set(&self, state: State) {
        self.bytes.store(state.bytes, Ordering::Relaxed);
        self.expected.store(state.expected, Ordering::Relaxed);
        self.beats.store(state.beats, Ordering::Relaxed);
        self.settling.store(state.settling, Ordering::Relaxed);
    }

    /// Set to true, it asks the run to end early with what it knows. A signal handler may do that.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    /// Asks for the same.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// How long to wait for an answer for which `timeout` is allowed: less, once the run is to end early.
    pub fn patience(&self, timeout: Duration) -> Duration {
        if self.is_cancelled() { timeout.min(LAST_CALL) } else { timeout }
    }

    /// Whether the run is to end early.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Sums of what filesystems say saturate.
fn add(sum: &AtomicU64, bytes: Bytes) {
    let _ = sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sum| Some((Bytes(sum) + bytes).0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_does_not_begin_anew_after_an_absurd_amount() {
        let monitor = Monitor::default();
        for _ in 0..3 {
            monitor.advance(Bytes(u64::MAX));
            monitor.expect(Bytes(u64::MAX / 2));
        }
        assert_eq!(monitor.progress(), (Bytes::MOST, Bytes::MOST));
    }
}
