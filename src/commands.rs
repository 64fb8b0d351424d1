// SPDX-License-Identifier: MIT OR Apache-2.0

//! What each command does, step by step. Only this room puts the others together.

pub(crate) mod assemble;
pub(crate) mod count;
pub(crate) mod deleted;
pub(crate) mod destination;
pub mod error;
pub(crate) mod explain;
pub(crate) mod filesystem_run;
pub(crate) mod recover;
pub mod refusal;
pub(crate) mod release;
pub(crate) mod request;
pub(crate) mod survey;
pub(crate) mod verified_file;
