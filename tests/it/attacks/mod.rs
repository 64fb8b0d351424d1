// SPDX-License-Identifier: MIT OR Apache-2.0

//! What hostile users, broken servers and absurd figures try against a run by root: each of these was possible,
//! or is a relative of one that was.

mod advice;
mod counters;
mod damage;
mod flat;
mod least_privilege;
mod limits;
mod names;
mod output;
mod recover;
mod release;
mod streams;
mod waits;
mod walk;
