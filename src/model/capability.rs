//! Which capabilities this process has in effect: capabilities(7), read from
//! /proc/self/status, so that advice never names what would not help.

/// The capabilities that decide what can be seen, by their bit in `CapEff`
/// (include/uapi/linux/capability.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Write to any file.
    DacOverride = 1,
    /// Read any directory.
    DacReadSearch = 2,
    /// Look into other users' processes.
    SysPtrace = 19,
    /// Clone mounts, to see beneath them.
    SysAdmin = 21,
    /// Stat what a process has mapped.
    CheckpointRestore = 40,
}

impl Capability {
    /// The name as in capabilities(7).
    pub fn name(self) -> &'static str {
        match self {
            Self::DacOverride => "CAP_DAC_OVERRIDE",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::CheckpointRestore => "CAP_CHECKPOINT_RESTORE",
        }
    }
}

/// The effective set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effective(u64);

impl Effective {
    /// This process's set. Empty where /proc cannot be read, and in a user namespace: there
    /// capabilities count only for what belongs to the namespace, `user_namespaces(7)`.
    pub fn current() -> Self {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        if !map.split_whitespace().eq(["0", "0", "4294967295"]) {
            return Self::default();
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self::parse(&status)
    }

    fn parse(status: &str) -> Self {
        let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        Self(hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0))
    }

    /// Whether `capability` is in effect.
    pub fn has(self, capability: Capability) -> bool {
        self.0 >> (capability as u32) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_from_status() {
        let some = Effective::parse("Name:\tx\nCapEff:\t0000000000080004\n");
        assert!(some.has(Capability::SysPtrace) && some.has(Capability::DacReadSearch));
        assert!(!some.has(Capability::SysAdmin));
        assert!(!Effective::parse("").has(Capability::SysAdmin));
    }
}
