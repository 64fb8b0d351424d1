//! Attacks on a run by root, by those who are logged in beside it and by what they leave on its disks.

// Helpers of tests: a failure in one is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod least_privilege;
