// SPDX-License-Identifier: MIT OR Apache-2.0

//! Any bytes as a volume of ext2, ext3 or ext4: `tests/fuzz/seeds` makes those to begin with.

#![no_main]

use std::num::NonZero;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|volume: &[u8]| whyfull::look_everywhere(volume, NonZero::<usize>::MIN));
