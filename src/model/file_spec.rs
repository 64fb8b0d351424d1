// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is to be recovered or released, in the words of the table of holders:
//! `1841:412`, `1841:map`, `1841:exe`, `inode:4063241`. Pure.

use std::fmt;
use std::str::FromStr;

use crate::model::deleted::{Hold, Via};

/// A deleted file, by somebody who holds it or by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSpec {
    /// By a holder.
    Held {
        /// A process, or a thread with a table of its own.
        task: i32,
        /// Through what it holds the file.
        handle: Handle,
    },
    /// By its inode number; on which filesystem is said elsewhere.
    Inode(u64),
}

/// What a file that has data is opened through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handle {
    /// An open descriptor.
    Descriptor(u32),
    /// Mapped memory.
    Mapping,
    /// The running program.
    Executable,
}

impl Handle {
    /// What opens a file that is held so; none for directories, and for what only passes through a socket or
    /// a ring.
    pub fn of(via: Via) -> Option<Self> {
        match via {
            Via::Descriptor { number, .. } => Some(Self::Descriptor(number)),
            Via::Mapping => Some(Self::Mapping),
            Via::Executable => Some(Self::Executable),
            Via::WorkingDirectory | Via::RootDirectory | Via::Socket { .. } | Via::IoUring { .. } => None,
        }
    }
}

impl From<Handle> for Via {
    fn from(handle: Handle) -> Self {
        match handle {
            Handle::Descriptor(number) => Self::Descriptor { number, info: None },
            Handle::Mapping => Self::Mapping,
            Handle::Executable => Self::Executable,
        }
    }
}

impl FileSpec {
    /// The file by one who holds it, if it can be opened through that one.
    pub fn of_hold(hold: &Hold) -> Option<Self> {
        Some(Self::Held { task: hold.task(), handle: Handle::of(hold.via)? })
    }
}

/// Why a text names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No such form.
    #[error("neither PID:FD, PID:map, PID:exe nor inode:N")]
    Form,
    /// A working or root directory, which the table of holders lists, too.
    #[error("a directory has no data to recover or to release")]
    Directory,
}

impl FromStr for FileSpec {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (before, after) = text.split_once(':').ok_or(ParseError::Form)?;
        if before == "inode" {
            return number(after).map(Self::Inode);
        }
        let task = number(before)?;
        let handle = match after {
            "map" => Handle::Mapping,
            "exe" => Handle::Executable,
            "cwd" | "root" => return Err(ParseError::Directory),
            descriptor => Handle::Descriptor(number(descriptor)?),
        };
        Ok(Self::Held { task, handle })
    }
}

/// Digits only: the standard library would take a sign.
fn number<T: FromStr>(digits: &str) -> Result<T, ParseError> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten().ok_or(ParseError::Form)
}

impl fmt::Display for FileSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inode(inode) => write!(f, "inode:{inode}"),
            Self::Held { task, handle } => write!(f, "{task}:{handle}"),
        }
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Descriptor(number) => write!(f, "{number}"),
            Self::Mapping => f.write_str("map"),
            Self::Executable => f.write_str("exe"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_words_of_the_table() {
        let held = |task, handle| Ok(FileSpec::Held { task, handle });
        assert_eq!("1841:412".parse(), held(1841, Handle::Descriptor(412)));
        assert_eq!("1841:map".parse(), held(1841, Handle::Mapping));
        assert_eq!("1841:exe".parse(), held(1841, Handle::Executable));
        assert_eq!("inode:4063241".parse(), Ok(FileSpec::Inode(4_063_241)));
        assert_eq!("1841:cwd".parse::<FileSpec>(), Err(ParseError::Directory));
    }

    #[test]
    fn malformed_specs_are_refused() {
        let wrong =
            ["", ":", "1841", "1841:", ":7", "-1:7", "+1:7", "1: 7", "1:7:8", "1:-7", "inode:", "inode:x"];
        for text in wrong.into_iter().chain(["99999999999:1", "1:99999999999", "inode:99999999999999999999"])
        {
            assert_eq!(text.parse::<FileSpec>(), Err(ParseError::Form), "{text}");
        }
    }

    fn any_spec() -> impl Strategy<Value = FileSpec> {
        let handle = prop_oneof![
            any::<u32>().prop_map(Handle::Descriptor),
            Just(Handle::Mapping),
            Just(Handle::Executable)
        ];
        prop_oneof![
            (0..i32::MAX, handle).prop_map(|(task, handle)| FileSpec::Held { task, handle }),
            any::<u64>().prop_map(FileSpec::Inode)
        ]
    }

    proptest! {
        #[test]
        fn a_printed_spec_reads_back(spec in any_spec()) {
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }

        #[test]
        fn any_text_ends_without_panic(text in "\\PC{0,24}") {
            let _ = text.parse::<FileSpec>();
        }
    }
}
