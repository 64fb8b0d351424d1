//! What hostile users, broken servers and absurd figures try against a run by root: each of these was possible,
//! or is a relative of one that was.

// Helpers of tests: a failure in one is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod advice;
mod flat;
mod least_privilege;
mod output;
mod recover;
mod streams;
mod waits;
