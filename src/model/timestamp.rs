// SPDX-License-Identifier: MIT OR Apache-2.0

//! Times that can be printed.

use std::time::{Duration, SystemTime};

/// The end of the year 9999, up to which RFC 3339 goes, in seconds since the epoch.
const END_OF_TIME: u64 = 253_402_300_800;

/// A time that can be printed, from seconds since the epoch.
pub fn timestamp(seconds: i64) -> Option<SystemTime> {
    let seconds = u64::try_from(seconds).ok().filter(|&seconds| seconds < END_OF_TIME)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
