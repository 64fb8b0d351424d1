// SPDX-License-Identifier: MIT OR Apache-2.0

//! Black-box tests: each makes a real situation, runs the command and compares what it says with the
//! truth. One binary, so that the support is compiled once.

// Helpers of tests: a failure in one is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use]
mod support;

mod attacks;
mod capacity;
mod cli;
mod coverage;
mod damaged;
mod dead_mounts;
mod deleted;
mod findings;
mod fixtures;
mod hidden;
mod holders;
mod indirect;
mod kernel;
mod limits;
mod mounts;
mod outside;
mod recover;
mod release;
mod remedies;
mod rooms;
mod scan;
mod screen;
mod table;
mod table_layouts;
mod tmpfs;
mod uninspectable;
mod unlinked;
mod visible;
