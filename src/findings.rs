//! Why a filesystem may refuse to store anything though bytes are left. Pure.

use crate::report::{Capacity, Finding, FindingCode, Severity};

/// What the filesystem's own figures show.
pub fn find(capacity: &Capacity) -> Vec<Finding> {
    let Capacity { inodes, inodes_free, .. } = *capacity;
    // Filesystems that make inodes as needed report none at all.
    if inodes == 0 || inodes_free.saturating_mul(100) >= inodes {
        return Vec::new();
    }
    let severity = if inodes_free == 0 { Severity::Critical } else { Severity::Warning };
    let message = format!("out of inodes, not of space: {inodes_free} of {inodes} inodes are free");
    vec![Finding { code: FindingCode::InodesExhausted, severity, message }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_one_percent_of_the_inodes_is_told() {
        let with = |inodes, inodes_free| find(&Capacity { inodes, inodes_free, ..Capacity::default() });
        assert_eq!(with(0, 0), []);
        assert_eq!(with(1000, 10), []);
        assert_eq!(with(1000, 9)[0].severity, Severity::Warning);
        assert_eq!(with(1000, 0)[0].severity, Severity::Critical);
    }
}
