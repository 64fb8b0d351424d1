// SPDX-License-Identifier: MIT OR Apache-2.0

//! CRC-32C with the processor's own instruction, of several short pieces side by side: one sum alone has to wait
//! for the result of each step, and the libraries are made for longer pieces.

/// How many pieces.
pub const LANES: usize = 4;

/// Goes on with `state` over each of the pieces, which are equally long, in words; without inverting anything.
/// `None` where the processor has no such instruction.
#[cfg(target_arch = "x86_64")]
pub fn side_by_side<const WORDS: usize>(
    state: u32,
    pieces: [&[[u8; 8]; WORDS]; LANES],
) -> Option<[u32; LANES]> {
    if !std::arch::is_x86_feature_detected!("sse4.2") {
        return None;
    }
    // SAFETY: the processor has the instructions that the function is compiled for.
    Some(unsafe { with_sse42(state, pieces) })
}

/// The same where there is no way known.
#[cfg(not(target_arch = "x86_64"))]
pub fn side_by_side<const WORDS: usize>(_: u32, _: [&[[u8; 8]; WORDS]; LANES]) -> Option<[u32; LANES]> {
    None
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn with_sse42<const WORDS: usize>(state: u32, pieces: [&[[u8; 8]; WORDS]; LANES]) -> [u32; LANES] {
    let mut sums = [u64::from(state); LANES];
    for word in 0..WORDS {
        for (sum, piece) in sums.iter_mut().zip(pieces) {
            *sum = std::arch::x86_64::_mm_crc32_u64(*sum, u64::from_le_bytes(piece[word]));
        }
    }
    // The upper halves are zero.
    sums.map(|sum| u32::try_from(sum).unwrap_or(0))
}
