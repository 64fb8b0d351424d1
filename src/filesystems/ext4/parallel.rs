// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pieces of work shared out among threads.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::error::Error;

use crate::sys::thread::spawn_scoped;

/// Does the pieces of work `0..count` on as many threads, each with a state of its own, which is
/// returned. The first error ends all.
pub(super) fn spread<S: Send>(
    threads: NonZero<usize>,
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<(), Error> + Sync,
) -> Result<Vec<S>, Error> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let run = || {
        let mut own = state();
        while !failed.load(Ordering::Relaxed) {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= count {
                break;
            }
            if let Err(error) = work(&mut own, piece) {
                failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(own)
    };
    thread::scope(|scope| {
        let others = 1..threads.get().min(count);
        let spawn = |_| spawn_scoped(scope, "tables", run).ok();
        // A thread that cannot be had is no loss: those that run do all.
        let others: Vec<_> = others.filter_map(spawn).collect();
        let mut states = vec![run()?];
        for other in others {
            states.push(other.join().map_err(|_| Error::Panicked)??);
        }
        Ok(states)
    })
}
