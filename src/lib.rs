// SPDX-License-Identifier: MIT OR Apache-2.0

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
//! # Ok::<(), whyfull::Error>(())
//! ```
//!
//! `docs/architecture.md` shows the rooms and the way of the data.

pub mod cli;
mod commands;
mod filesystems;
mod holders;
mod model;
mod mounts;
pub mod report;
mod statvfs;
mod sys;
mod walk;

pub use commands::deleted::{Request as DeletedRequest, deleted};
pub use commands::error::Error;
pub use commands::explain::explain;
pub use commands::request::{Method, Request};
pub use filesystems::Unable;
#[cfg(fuzzing)]
pub use filesystems::look_everywhere;
pub use model::group_by::GroupBy;
pub use model::monitor::Monitor;
pub use report::Report;
