// SPDX-License-Identifier: MIT OR Apache-2.0

//! How the command ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use signal_hook::low_level::emulate_default_handler;

use crate::model::monitor::Monitor;
use crate::sys::memory;

/// The ways to end, as shells see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// 0: everything that matters was looked at.
    Complete,
    /// 1: there is a report, but something that matters could not be read, as with du.
    Incomplete,
    /// 2: wrong usage, or no report.
    Failure,
    /// Ended by SIGINT, after a partial report.
    Interrupted,
}

impl Exit {
    /// Ends the process. After an interrupt it dies by the signal, so that a shell loop ends, too.
    pub fn end(self) -> ! {
        if self == Self::Interrupted {
            // Only an unknown signal is refused.
            let _ = emulate_default_handler(SIGINT);
        }
        std::process::exit(self.code().into())
    }

    /// The exit status; after an interrupt as a shell has it.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Incomplete => 1,
            Self::Failure => 2,
            Self::Interrupted => 130,
        }
    }

    /// What has that exit status.
    pub(super) fn from_code(code: u8) -> Self {
        let all = [Self::Complete, Self::Incomplete, Self::Interrupted];
        all.into_iter().find(|exit| exit.code() == code).unwrap_or(Self::Failure)
    }
}

/// The first SIGINT ends the run early with what is known; a second ends the process at once.
pub(super) fn cancel_on_interrupt(monitor: &Monitor) -> io::Result<()> {
    let cancelled = monitor.cancel_flag();
    // In this order: the condition is looked at before it is set.
    flag::register_conditional_default(SIGINT, Arc::clone(&cancelled))?;
    flag::register(SIGINT, cancelled)?;
    Ok(())
}

/// A bug is told in one line, and ends the command with status 2. So is a thread for which there is too little
/// memory to start: it panics (`get_stack` of std's `stack_overflow`). Of several threads the first one tells.
pub(super) fn on_panic(tell: impl Fn(&str) + Send + Sync + 'static) {
    static WAS_TOLD: AtomicBool = AtomicBool::new(false);
    let no_memory = format!("(os error {})", libc::ENOMEM);
    std::panic::set_hook(Box::new(move |info| {
        while WAS_TOLD.swap(true, Ordering::Relaxed) {
            // The first one is about to end the process.
            thread::sleep(Duration::from_secs(1));
        }
        let text = info.to_string();
        if text.contains(&no_memory) {
            tell(memory::MESSAGE);
        } else {
            tell(&format!("internal error: {text}"));
        }
        std::process::exit(memory::EXIT_STATUS);
    }));
}
