//! Why a filesystem may refuse to store anything though bytes are left. Pure.

use crate::report::{Capacity, Finding, FindingCode, Severity};

/// What the filesystem's own figures show.
pub fn find(capacity: &Capacity) -> Vec<Finding> {
    let Capacity { inodes, inodes_free, size_bytes, available_bytes, .. } = *capacity;
    let scarce = |free: u64, all: u64| free.saturating_mul(100) < all;
    // Filesystems that make inodes as needed report none at all, or, like XFS, fewer the less space
    // is free: then it is the space that is scarce.
    if !scarce(inodes_free, inodes) || scarce(available_bytes.0, size_bytes.0) {
        return Vec::new();
    }
    let severity = if inodes_free == 0 { Severity::Critical } else { Severity::Warning };
    let message = format!("out of inodes, not of space: {inodes_free} of {inodes} inodes are free");
    vec![Finding { code: FindingCode::InodesExhausted, severity, message }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Bytes;

    #[test]
    fn below_one_percent_of_the_inodes_is_told() {
        let space = Capacity { size_bytes: Bytes(1000), available_bytes: Bytes(10), ..Capacity::default() };
        let with = |inodes, inodes_free| find(&Capacity { inodes, inodes_free, ..space });
        assert_eq!(with(0, 0), []);
        assert_eq!(with(1000, 10), []);
        assert_eq!(with(1000, 9)[0].severity, Severity::Warning);
        assert_eq!(with(1000, 0)[0].severity, Severity::Critical);
        let full = Capacity { available_bytes: Bytes(9), ..space };
        assert_eq!(find(&Capacity { inodes: 1000, inodes_free: 1, ..full }), [], "of space, too");
    }
}
