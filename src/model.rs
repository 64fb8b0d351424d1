//! Values and rules. No I/O: everything here can be tested with plain values.

pub mod bytes;
pub(crate) mod capability;
pub(crate) mod errno;
pub(crate) mod escape;
pub mod file_spec;
pub mod findings;
pub mod group_by;
pub(crate) mod last_name;
pub mod ledger;
pub(crate) mod limits;
pub(crate) mod monitor;
pub mod remedies;
pub(crate) mod skips;
pub mod traits;
pub(crate) mod usage;
