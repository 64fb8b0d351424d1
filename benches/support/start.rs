// SPDX-License-Identifier: MIT OR Apache-2.0

//! What every benchmark is told, and how it begins and ends.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{filesystem, interrupt, programs};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The options that all have.
#[derive(Args)]
pub(crate) struct Start {
    /// The whyfull to measure
    #[arg(long, default_value = env!("CARGO_BIN_EXE_whyfull"), value_name = "PATH")]
    whyfull: PathBuf,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

impl Start {
    /// Runs the benchmark of this name, if `cargo bench` has started it.
    pub(crate) fn run(&self, name: &str, benchmark: impl FnOnce() -> Result<()>) -> ExitCode {
        if !self.bench {
            // `cargo test --all-targets` starts benchmarks too.
            println!("{name}: not measured without `cargo bench --bench {name}`");
            return ExitCode::SUCCESS;
        }
        match benchmark() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{name}: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// Before anything is made: mounts of its own, and a tidy end on Ctrl-C. Returns whyfull's name with
    /// its version, and its path.
    pub(crate) fn prepare(&self) -> Result<(String, String)> {
        let whyfull = programs::find_whyfull(&self.whyfull)?;
        filesystem::enter_private_mounts()?;
        interrupt::watch_for_interrupts()?;
        Ok(whyfull)
    }
}
