// SPDX-License-Identifier: MIT OR Apache-2.0

//! Raises an alarm when more than a tenth of what a filesystem holds is where `du` does not look.
//!
//! `cargo run --example disk_alarm -- /var` prints one line a filesystem. It exits as monitoring
//! plugins do: 0 if all is well, 1 for a warning, 3 if that is not known. Without a path it looks
//! at every local filesystem.

use std::process::ExitCode;

use whyfull::{Monitor, Report, Request, explain};

fn main() -> ExitCode {
    let paths: Vec<_> = std::env::args_os().skip(1).map(Into::into).collect();
    let request = Request { all: paths.is_empty(), paths, ..Request::default() };
    match explain(&request, &Monitor::default()) {
        Ok(report) => ExitCode::from(judge(&report)),
        Err(error) => {
            println!("UNKNOWN - {error}");
            ExitCode::from(3)
        }
    }
}

/// What was found is reason enough for a warning. Only a complete report can say that all is well.
fn judge(report: &Report) -> u8 {
    let mut status = if report.run.complete { 0 } else { 3 };
    for filesystem in &report.filesystems {
        let (gap, used) = (filesystem.gap_bytes.0, filesystem.capacity.used_bytes.0);
        let alarm = i128::from(gap) * 10 > i128::from(used);
        let word = if alarm { "WARNING" } else { "below the limit" };
        println!("{}: {gap} of {used} bytes, {word}", filesystem.mountpoint.display());
        status = if alarm { 1 } else { status };
    }
    status
}
