// SPDX-License-Identifier: MIT OR Apache-2.0

//! Many calls of one kind, of which some may never return, on a bounded number of threads. Those that do not
//! return are left behind, as in `deadline`.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::sys::detached::detach;

/// More would only take longer to start than they save: each call takes microseconds, unless it hangs.
const MOST_THREADS: usize = 16;

/// Calls that have been begun.
#[derive(Debug)]
pub struct Batch<T> {
    results: mpsc::Receiver<(usize, T)>,
    count: usize,
}

/// Begins `call` for each of `items` beside whatever comes next.
pub fn begin<I, T>(items: Vec<I>, call: impl Fn(I) -> T + Send + Sync + 'static) -> Batch<T>
where
    I: Send + 'static,
    T: Send + 'static,
{
    let (sender, results) = mpsc::channel();
    let count = items.len();
    let items = Arc::new(Mutex::new(items.into_iter().enumerate()));
    let call = Arc::new(call);
    for _ in 0..count.min(MOST_THREADS) {
        let (items, call, sender) = (Arc::clone(&items), Arc::clone(&call), sender.clone());
        detach(move || {
            loop {
                let next = items.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((index, item)) = next else { return };
                // Nobody receives any more when the time was up.
                if sender.send((index, call(item))).is_err() {
                    return;
                }
            }
        });
    }
    Batch { results, count }
}

impl<T> Batch<T> {
    /// Waits for all results, but no longer than `timeout` for any next one. `None` in the place of those that
    /// have not come by then.
    pub fn wait(self, timeout: Duration) -> Vec<Option<T>> {
        let mut results: Vec<Option<T>> = (0..self.count).map(|_| None).collect();
        // All senders are gone when all is done.
        while let Ok((index, result)) = self.results.recv_timeout(timeout) {
            if let Some(place) = results.get_mut(index) {
                *place = Some(result);
            }
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_hang_cost_one_timeout_together() {
        let (hold, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let hangs = |number: &u32| number.is_multiple_of(100);
        let call = move |number| {
            if hangs(&number) {
                let _ = wait.lock().unwrap().recv();
            }
            number
        };
        let results = begin((0..1000).collect(), call).wait(Duration::from_millis(300));
        for (number, result) in (0..).zip(results) {
            assert_eq!(result, (!hangs(&number)).then_some(number));
        }
        drop(hold);
    }

    #[test]
    fn nothing_to_do_takes_no_time() {
        assert!(begin(Vec::<u32>::new(), |number| number).wait(Duration::from_mins(1)).is_empty());
    }
}
