//! What is to be recovered or released, in the words of the table of holders:
//! `1841:412`, `1841:map`, `1841:exe`, `inode:4063241`. Pure.

use std::fmt;
use std::str::FromStr;

/// A deleted file, by somebody who holds it or by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// By a holder.
    Held {
        /// A process, or a thread with a table of its own.
        task: i32,
        /// How it holds the file.
        via: Via,
    },
    /// By its inode number; on which filesystem is said elsewhere.
    Inode(u64),
}

/// The ways to hold a file that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// An open descriptor.
    Descriptor(u32),
    /// Mapped memory.
    Mapping,
    /// The running program.
    Executable,
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

impl FromStr for What {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (before, after) = text.split_once(':').ok_or(ParseError::Form)?;
        if before == "inode" {
            return number(after).map(Self::Inode);
        }
        let task = number(before)?;
        let via = match after {
            "map" => Via::Mapping,
            "exe" => Via::Executable,
            "cwd" | "root" => return Err(ParseError::Directory),
            descriptor => Via::Descriptor(number(descriptor)?),
        };
        Ok(Self::Held { task, via })
    }
}

/// Digits only: the standard library would take a sign.
fn number<T: FromStr>(digits: &str) -> Result<T, ParseError> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten().ok_or(ParseError::Form)
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inode(inode) => write!(f, "inode:{inode}"),
            Self::Held { task, via } => write!(f, "{task}:{via}"),
        }
    }
}

impl fmt::Display for Via {
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
        let held = |task, via| Ok(What::Held { task, via });
        assert_eq!("1841:412".parse(), held(1841, Via::Descriptor(412)));
        assert_eq!("1841:map".parse(), held(1841, Via::Mapping));
        assert_eq!("1841:exe".parse(), held(1841, Via::Executable));
        assert_eq!("inode:4063241".parse(), Ok(What::Inode(4_063_241)));
        assert_eq!("1841:cwd".parse::<What>(), Err(ParseError::Directory));
    }

    #[test]
    fn nothing_is_guessed() {
        let wrong =
            ["", ":", "1841", "1841:", ":7", "-1:7", "+1:7", "1: 7", "1:7:8", "1:-7", "inode:", "inode:x"];
        for text in wrong.into_iter().chain(["99999999999:1", "1:99999999999", "inode:99999999999999999999"])
        {
            assert_eq!(text.parse::<What>(), Err(ParseError::Form), "{text}");
        }
    }

    fn any_what() -> impl Strategy<Value = What> {
        let via =
            prop_oneof![any::<u32>().prop_map(Via::Descriptor), Just(Via::Mapping), Just(Via::Executable)];
        prop_oneof![
            (0..i32::MAX, via).prop_map(|(task, via)| What::Held { task, via }),
            any::<u64>().prop_map(What::Inode)
        ]
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(what in any_what()) {
            prop_assert_eq!(what.to_string().parse(), Ok(what));
        }

        #[test]
        fn any_text_ends_without_panic(text in "\\PC{0,24}") {
            let _ = text.parse::<What>();
        }
    }
}
