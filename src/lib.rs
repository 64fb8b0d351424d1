//! *The disk is full, but du says otherwise: where is the space?*
//!
//! This library takes one filesystem and accounts for every byte that `df` calls used, in one ledger
//! that adds up to the byte: files that can be seen, files beneath mount points, files that were
//! deleted but are still held open (by whom), and what is left unexplained, with its bound.
//!
//! ```no_run
//! use whyfull::{Monitor, Request, explain};
//!
//! let request = Request { paths: vec!["/var".into()], ..Request::default() };
//! let report = explain(&request, &Monitor::default())?;
//! let filesystem = &report.filesystems[0];
//! println!("{} bytes are not where du looks", filesystem.gap_bytes.0);
//! # Ok::<(), whyfull::error::Error>(())
//! ```
//!
//! `docs/architecture.md` shows the rooms and the way of the data.

mod accounts;
mod assemble;
pub mod bytes;
mod capability;
mod census;
pub mod cli;
mod deadline;
mod deleted;
mod destination;
pub mod error;
mod escape;
mod explain;
pub mod findings;
mod fs;
mod holders;
pub mod ledger;
mod limits;
mod monitor;
mod mounts;
mod opened;
mod probe;
mod recover;
pub mod refusal;
mod release;
pub mod remedy;
pub mod report;
mod skip;
pub mod sums;
mod survey;
mod sys;
mod walk;
pub mod what;

pub use deleted::deleted;
pub use explain::{Method, Request, explain};
pub use fs::Unable;
#[cfg(fuzzing)]
pub use fs::look_everywhere;
pub use monitor::Monitor;
pub use report::Report;
