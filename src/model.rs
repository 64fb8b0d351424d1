// SPDX-License-Identifier: MIT OR Apache-2.0

//! Values and rules. No I/O: everything here can be tested with plain values.

pub mod bytes;
pub(crate) mod capability;
pub mod capacity;
pub mod deleted;
pub(crate) mod errno;
pub(crate) mod escape;
pub mod file_spec;
pub mod findings;
pub mod group_by;
pub mod identity;
pub(crate) mod last_name;
pub mod ledger;
pub(crate) mod limits;
pub mod methods;
pub(crate) mod monitor;
pub mod open_flags;
pub mod process;
pub mod remedies;
pub(crate) mod skips;
pub mod timestamp;
pub mod traits;
pub(crate) mod usage;
