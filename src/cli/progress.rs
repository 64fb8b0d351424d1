// SPDX-License-Identifier: MIT OR Apache-2.0

//! How far the run is: on stderr, if that is a terminal.

use std::io::{self, IsTerminal};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::model::bytes::Units;
use crate::model::monitor::Monitor;
use crate::sys::thread::spawn;

/// Runs shorter than one of these never show anything.
const INTERVAL: Duration = Duration::from_millis(150);

/// A bar that is redrawn until this is dropped, and then wiped.
pub(super) struct Progress {
    thread: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts drawing what `monitor` knows, if it is `wanted` and somebody can see it.
    pub(super) fn show(monitor: &Monitor, wanted: bool) -> Self {
        if !wanted || !io::stderr().is_terminal() {
            return Self { thread: None };
        }
        let monitor = monitor.clone();
        let (stop, stopped) = mpsc::channel();
        let thread = spawn("progress", move || draw(&monitor, &stopped));
        Self { thread: thread.ok().map(|thread| (stop, thread)) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            // A thread that has panicked has nothing left to wipe.
            let _ = thread.join();
        }
    }
}

fn draw(monitor: &Monitor, stopped: &mpsc::Receiver<()>) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {msg}") {
        bar.set_style(style);
    }
    while stopped.recv_timeout(INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
        let (done, expected) = monitor.progress();
        bar.set_length(expected.0);
        bar.set_position(done.0.min(expected.0));
        bar.set_message(format!("{} of {}", Units::Binary.format(done), Units::Binary.format(expected)));
    }
    bar.finish_and_clear();
}
