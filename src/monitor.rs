//! How a run and whoever started it talk while it lasts: progress one way, the wish
//! to stop the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::bytes::Bytes;

/// Shared between the run and its observer; clones see the same run.
#[derive(Clone, Debug, Default)]
pub struct Monitor {
    bytes: Arc<AtomicU64>,
    expected: Arc<AtomicU64>,
    cancelled: Arc<AtomicBool>,
}

impl Monitor {
    /// More bytes have been accounted for.
    pub fn advance(&self, bytes: Bytes) {
        self.bytes.fetch_add(bytes.0, Ordering::Relaxed);
    }

    /// More bytes are to be accounted for.
    pub fn expect(&self, bytes: Bytes) {
        self.expected.fetch_add(bytes.0, Ordering::Relaxed);
    }

    /// Bytes accounted for so far, and bytes in all.
    pub fn progress(&self) -> (Bytes, Bytes) {
        (Bytes(self.bytes.load(Ordering::Relaxed)), Bytes(self.expected.load(Ordering::Relaxed)))
    }

    /// Set to true, it asks the run to end early with what it knows. A signal handler may do that.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    /// Whether the run is to end early.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
