//! How a run and whoever started it talk while it lasts: progress one way, the wish
//! to stop the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::model::bytes::Bytes;

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
        self.bytes.fetch_add(bytes.0, Ordering::Relaxed);
    }

    /// More bytes are to be accounted for.
    pub fn expect(&self, bytes: Bytes) {
        let add = |expected: u64| Some(expected.saturating_add(bytes.0));
        let _ = self.expected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Bytes accounted for so far, and bytes in all.
    pub fn progress(&self) -> (Bytes, Bytes) {
        (Bytes(self.bytes.load(Ordering::Relaxed)), Bytes(self.expected.load(Ordering::Relaxed)))
    }

    /// It is waiting for something that may well take its time.
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

    /// Whether the run is to end early.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
