// SPDX-License-Identifier: MIT OR Apache-2.0

//! The flags of an open descriptor, in the names of open(2).

use std::fmt;

/// Flags that may be set besides the access mode. Those that contain others come first.
const NAMES: [(i32, &str); 13] = [
    (libc::O_TMPFILE, "O_TMPFILE"),
    (libc::O_SYNC, "O_SYNC"),
    (libc::O_PATH, "O_PATH"),
    (libc::O_APPEND, "O_APPEND"),
    (libc::O_NONBLOCK, "O_NONBLOCK"),
    (libc::O_DSYNC, "O_DSYNC"),
    (libc::O_ASYNC, "O_ASYNC"),
    (libc::O_DIRECT, "O_DIRECT"),
    (libc::O_DIRECTORY, "O_DIRECTORY"),
    (libc::O_NOFOLLOW, "O_NOFOLLOW"),
    (libc::O_NOATIME, "O_NOATIME"),
    (libc::O_CLOEXEC, "O_CLOEXEC"),
    (libc::O_TRUNC, "O_TRUNC"),
];

/// How a descriptor was opened, as fdinfo shows it: the flags of open(2), with `O_CLOEXEC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenFlags(pub i32);

/// What a descriptor may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    ReadAndWrite,
}

impl OpenFlags {
    fn access(self) -> Access {
        // Not O_ACCMODE: musl's (include/fcntl.h) contains O_PATH.
        match self.0 & (libc::O_WRONLY | libc::O_RDWR) {
            libc::O_RDONLY => Access::Read,
            libc::O_WRONLY => Access::Write,
            _ => Access::ReadAndWrite,
        }
    }

    /// Whether it is open as a log is: only to write to it, or to append.
    pub fn only_writes(self) -> bool {
        self.access() == Access::Write || self.0 & libc::O_APPEND != 0
    }

    /// Whether it is open for reading and writing, as databases and temporary files are.
    pub fn reads_and_writes(self) -> bool {
        self.access() == Access::ReadAndWrite
    }
}

/// `O_RDWR|O_APPEND`. Flags without a name of their own are left out.
impl fmt::Display for OpenFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.access() {
            Access::Read => "O_RDONLY",
            Access::Write => "O_WRONLY",
            Access::ReadAndWrite => "O_RDWR",
        })?;
        let mut left = self.0;
        for (flag, name) in NAMES {
            if left & flag == flag {
                write!(f, "|{name}")?;
                left &= !flag;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_is_named_once() {
        let names = |flags| OpenFlags(flags).to_string();
        assert_eq!(names(0), "O_RDONLY");
        assert_eq!(names(libc::O_RDWR | libc::O_APPEND | libc::O_CLOEXEC), "O_RDWR|O_APPEND|O_CLOEXEC");
        assert_eq!(names(libc::O_WRONLY | libc::O_SYNC), "O_WRONLY|O_SYNC");
        assert_eq!(names(libc::O_RDWR | libc::O_TMPFILE), "O_RDWR|O_TMPFILE");
        assert_eq!(names(libc::O_PATH | libc::O_CLOEXEC), "O_RDONLY|O_PATH|O_CLOEXEC");
        // A flag that open(2) does not name.
        assert_eq!(names(libc::O_WRONLY | 1 << 30), "O_WRONLY");
    }
    #[test]
    fn a_log_is_only_written() {
        let only_writes = |flags| OpenFlags(flags).only_writes();
        assert!(only_writes(libc::O_WRONLY) && only_writes(libc::O_RDWR | libc::O_APPEND));
        assert!(!only_writes(libc::O_RDONLY) && !only_writes(libc::O_RDWR | libc::O_CLOEXEC));
        assert!(OpenFlags(libc::O_RDWR).reads_and_writes());
        assert!(!OpenFlags(libc::O_WRONLY | libc::O_APPEND).reads_and_writes());
    }
}
