// SPDX-License-Identifier: MIT OR Apache-2.0

//! The system calls that nix does not wrap, and an instruction of the processor, one thin module each. Every
//! `unsafe` block of the project stands below this module.

pub mod accounts;
pub mod batch;
pub mod btrfs_devices;
pub mod bulkstat;
pub mod capabilities;
pub mod clone;
pub mod confinement;
pub mod crc32c;
pub mod deadline;
pub mod detached;
pub mod environment;
pub mod getdents;
pub mod handle;
pub mod kcmp;
pub mod limits;
pub mod loop_device;
pub mod magic;
pub mod memory;
mod message;
pub mod mount;
pub mod mount_namespace;
pub mod peek;
pub mod pidfd;
pub mod process;
pub mod quota;
pub mod rename;
pub mod scout;
mod seccomp;
pub mod signals;
pub mod startup;
pub mod stat;
pub mod thread;
pub mod tree_search;
pub mod worker;
pub mod xfs_geometry;

/// A device number as the kernel prints it in mountinfo: `major:minor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dev {
    /// The driver's number; 0 for filesystems without a block device.
    pub major: u32,
    /// The device's number within the driver.
    pub minor: u32,
}

impl std::fmt::Display for Dev {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl std::str::FromStr for Dev {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self { major: major.parse()?, minor: minor.parse()? })
    }
}
