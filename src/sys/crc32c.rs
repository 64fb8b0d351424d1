//! CRC-32C as ext4 uses it: `crc32c()` of the kernel, which inverts neither its seed nor its result.

/// So many sums are computed side by side: the instruction takes three cycles and one can begin in each.
pub const LANES: usize = 4;

/// Goes on with `state` over `bytes`.
pub fn append(state: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!state, bytes)
}

/// The same for several pieces of equal length, of whole 8-byte words, as short as inodes are. There one
/// sum alone would wait for the result of each step.
pub fn append_each(states: [u32; LANES], words: [&[[u8; 8]]; LANES]) -> [u32; LANES] {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has the instructions that the function is compiled for.
        return unsafe { side_by_side(states, words) };
    }
    std::array::from_fn(|lane| append(states[lane], words[lane].as_flattened()))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn side_by_side(states: [u32; LANES], words: [&[[u8; 8]]; LANES]) -> [u32; LANES] {
    use std::arch::x86_64::_mm_crc32_u64;
    let [a, b, c, d] = words;
    let mut states = states.map(u64::from);
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        for (state, word) in states.iter_mut().zip([a, b, c, d]) {
            *state = _mm_crc32_u64(*state, u64::from_le_bytes(*word));
        }
    }
    // The upper halves are zero.
    states.map(|state| u32::try_from(state).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_rfc_3720() {
        assert_eq!(!append(!0, b"123456789"), 0xe306_9283);
        assert_eq!(!append(!0, &[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn side_by_side_is_the_same_as_one_by_one() {
        let bytes: Vec<u8> = (0..=255_u8).map(|byte| byte.wrapping_mul(31) ^ 0x5a).collect();
        let pieces: [&[u8]; LANES] = std::array::from_fn(|lane| &bytes[lane * 64..][..64]);
        let states = [0, 1, !0, 0x1234_5678];
        let each = append_each(states, pieces.map(|piece| piece.as_chunks().0));
        for lane in 0..LANES {
            assert_eq!(each[lane], append(states[lane], pieces[lane]));
        }
    }
}
