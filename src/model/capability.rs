// SPDX-License-Identifier: MIT OR Apache-2.0

//! The capabilities that decide what can be seen: capabilities(7). Advice names none that would not help.

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
    /// The set with these bits.
    pub fn of(bits: u64) -> Self {
        Self(bits)
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
    fn each_capability_is_its_bit() {
        let some = Effective::of(0x0008_0004);
        assert!(some.has(Capability::SysPtrace) && some.has(Capability::DacReadSearch));
        assert!(!some.has(Capability::SysAdmin));
        assert!(!Effective::default().has(Capability::SysAdmin));
    }
}
