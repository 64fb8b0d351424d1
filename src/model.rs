//! Values and rules. No I/O: everything here can be tested with plain values.

pub mod bytes;
pub(crate) mod capability;
pub mod capacity;
pub mod deleted;
pub(crate) mod escape;
pub mod file_spec;
pub mod findings;
pub mod group_by;
pub mod identity;
pub mod ledger;
pub mod methods;
pub(crate) mod monitor;
pub mod open_flags;
pub mod process;
pub mod remedies;
pub(crate) mod skips;
pub mod timestamp;
pub(crate) mod usage;
