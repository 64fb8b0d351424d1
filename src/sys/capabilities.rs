// SPDX-License-Identifier: MIT OR Apache-2.0

//! The capabilities that this process has in effect: capabilities(7), read from /proc/self/status.

/// The bits of `CapEff`. None where /proc cannot be read, and in a user namespace: there capabilities count
/// only for what belongs to the namespace, `user_namespaces(7)`.
pub fn effective() -> u64 {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !map.split_whitespace().eq(["0", "0", "4294967295"]) {
        return 0;
    }
    parse(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn parse(status: &str) -> u64 {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_from_status() {
        assert_eq!(parse("Name:\tx\nCapEff:\t0000000000080004\n"), 0x0008_0004);
        assert_eq!(parse(""), 0);
    }
}
