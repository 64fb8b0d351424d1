// SPDX-License-Identifier: MIT OR Apache-2.0

//! How work spreads among the threads: each has a stack of its own, and gives of it
//! only when another has run dry. Nobody touches the lock while all are busy.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The shared part.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// There is work, or there will be none: for workers.
    work: Condvar,
    /// All is done: for `settle`. Not the same, or a notice for a worker might go to whoever settles.
    done: Condvar,
    /// How many workers wait, readable without the lock.
    hungry: AtomicUsize,
}

struct State<T> {
    items: Vec<T>,
    workers: usize,
    waiting: usize,
}

impl<T> Queue<T> {
    /// A queue that starts with these.
    pub(super) fn new(items: Vec<T>) -> Self {
        Self {
            state: Mutex::new(State { items, workers: 0, waiting: 0 }),
            work: Condvar::new(),
            done: Condvar::new(),
            hungry: AtomicUsize::new(0),
        }
    }

    /// Counts one more worker. To be called before the worker's thread starts, so that nobody
    /// takes the work for done while it is on its way.
    pub(super) fn join(&self) {
        self.lock().workers += 1;
    }

    /// Takes a worker back whose thread could not be started.
    pub(super) fn leave(&self) {
        self.lock().workers -= 1;
        self.work.notify_all();
    }

    /// Whether a worker waits for work.
    pub(super) fn is_hungry(&self) -> bool {
        self.hungry.load(Ordering::Relaxed) > 0
    }

    /// Gives `item` to those who wait, or back when they have been served meanwhile.
    pub(super) fn offer(&self, item: T) -> Option<T> {
        let mut state = self.lock();
        if state.items.len() >= state.waiting {
            return Some(item);
        }
        state.items.push(item);
        self.work.notify_one();
        None
    }

    /// Adds work that somebody else has left.
    pub(super) fn give(&self, stack: &mut Vec<T>) {
        self.lock().items.append(stack);
        self.work.notify_all();
    }

    /// Gives the older half of a worker's stack (the larger pieces of work) to those who wait.
    pub(super) fn share(&self, stack: &mut Vec<T>) {
        /// More at once would only make the others give back.
        const AT_MOST: usize = 256;
        let mut state = self.lock();
        if state.waiting > 0 && state.items.is_empty() {
            state.items.extend(stack.drain(..(stack.len() / 2).min(AT_MOST)));
            self.work.notify_all();
        }
    }

    /// Waits for work and moves a share of it to `stack`. `false` when all is done: every
    /// worker waits and nothing is left.
    pub(super) fn take(&self, stack: &mut Vec<T>) -> bool {
        let mut state = self.lock();
        state.waiting += 1;
        self.hungry.fetch_add(1, Ordering::Relaxed);
        while state.items.is_empty() {
            if state.waiting == state.workers {
                self.work.notify_all();
                self.done.notify_all();
                return false;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        self.hungry.fetch_sub(1, Ordering::Relaxed);
        let share = state.items.len().div_ceil(state.waiting + 1);
        let kept = state.items.len() - share;
        stack.extend(state.items.drain(kept..));
        true
    }

    /// Waits until all is done, for at most `timeout`; then says how many workers wait.
    pub(super) fn settle(&self, timeout: Duration) -> Waiting {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            let done = state.waiting == state.workers && state.items.is_empty();
            let left = deadline.saturating_duration_since(Instant::now());
            if done || left.is_zero() {
                break;
            }
            state = self.done.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.waiting == state.workers && state.items.is_empty() {
            Waiting::All
        } else if state.waiting > 0 {
            Waiting::Some
        } else {
            Waiting::None
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many workers have nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// All: the work is done.
    All,
    /// Some: more workers would not help.
    Some,
    /// None: more workers might.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// Each item is a number that stands for that many smaller ones.
    #[test]
    fn every_item_is_done_once_whatever_the_number_of_workers() {
        for workers in [1, 2, 7] {
            let (queue, done) = (Queue::new(vec![16_u32]), AtomicU64::new(0));
            for _ in 0..workers {
                queue.join();
            }
            std::thread::scope(|scope| {
                for _ in 0..workers {
                    scope.spawn(|| {
                        let mut stack = Vec::new();
                        while queue.take(&mut stack) {
                            while let Some(item) = stack.pop() {
                                done.fetch_add(1, Ordering::Relaxed);
                                stack.extend(0..item);
                                if queue.is_hungry() && stack.len() > 1 {
                                    queue.share(&mut stack);
                                }
                            }
                        }
                    });
                }
            });
            assert_eq!(done.into_inner(), 1 << 16);
            assert_eq!(queue.settle(Duration::ZERO), Waiting::All);
        }
    }
}
