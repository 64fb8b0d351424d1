// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names for the screen. A deleted file's name is chosen by whoever made it: it may
//! hold newlines, terminal sequences or marks that turn the line round.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path on one line, with everything escaped that could move the cursor or deceive the eye.
pub fn path(path: &Path) -> String {
    bytes(path.as_os_str().as_bytes())
}

/// Any bytes on one line: control characters and what is no UTF-8 as in Rust's and fd's escapes,
/// a backslash doubled so that nothing is ambiguous.
pub fn bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push(&mut text, character);
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// `text` with every character beyond ASCII escaped, for terminals without UTF-8.
pub fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

/// A word as a shell takes it, so that a line can be copied.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The same for a line that is shown: a word that could move the cursor or deceive the eye is written with
/// the escapes of `$'...'`, as bash, ksh, zsh and POSIX.1-2024 know them.
pub fn shell(word: &str, unicode: bool) -> String {
    shell_bytes(word.as_bytes(), unicode)
}

/// The same for a path, of whatever bytes.
pub fn shell_path(path: &Path, unicode: bool) -> String {
    shell_bytes(path.as_os_str().as_bytes(), unicode)
}

fn shell_bytes(word: &[u8], unicode: bool) -> String {
    let shows = |c: char| !c.is_control() && !is_invisible(c) && (unicode || c.is_ascii());
    if let Ok(text) = std::str::from_utf8(word)
        && text.chars().all(shows)
    {
        return quoted(text);
    }
    let mut text = String::from("$'");
    let octal = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Three digits: what follows is no part of it. Writing to a String cannot fail.
            let _ = write!(text, "\\{byte:03o}");
        }
    };
    for chunk in word.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\'' | '\\' => text.extend(['\\', character]),
                character if shows(character) => text.push(character),
                character => octal(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        octal(&mut text, chunk.invalid());
    }
    text.push('\'');
    text
}

fn push(text: &mut String, character: char) {
    if character == '\\' || character.is_control() || is_invisible(character) {
        text.extend(character.escape_default());
    } else {
        text.push(character);
    }
}

/// Characters that show nothing or change the order of what is shown: separators, zero-width and
/// bidirectional marks, tags, variation selectors (Unicode 16, categories Cf, Zl, Zp and what
/// terminals treat alike).
fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_on_their_line() {
        assert_eq!(bytes("größe.log".as_bytes()), "größe.log");
        assert_eq!(bytes(b"a\nb\x1b[2J"), "a\\nb\\u{1b}[2J");
        assert_eq!(bytes("x\u{202e}gpj".as_bytes()), "x\\u{202e}gpj");
        assert_eq!(bytes(b"\xff\xfe.bin"), "\\xff\\xfe.bin");
        assert_eq!(bytes(br"a\nb"), r"a\\nb");
        assert_eq!(ascii("größe"), "gr\\u{f6}\\u{df}e");
    }

    #[test]
    fn a_word_is_shown_as_a_shell_takes_it() {
        assert_eq!(shell("/srv/a-b", true), "/srv/a-b");
        assert_eq!(shell("it's", true), r"'it'\''s'");
        assert_eq!(shell(r"a\b", true), r"'a\b'");
        assert_eq!(shell("a\nb'\\1", true), r"$'a\012b\'\\1'");
        assert_eq!(shell("größe", true), "'größe'");
        assert_eq!(shell("größe", false), r"$'gr\303\266\303\237e'");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_reach_the_terminal_raw(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let text = bytes(&raw);
            proptest::prop_assert!(!text.chars().any(|c| c.is_control() || is_invisible(c)));
        }

        #[test]
        fn a_shell_reads_back_what_is_shown(word in "[^\\x00]{0,24}", unicode in proptest::bool::ANY) {
            let text = shell(&word, unicode);
            proptest::prop_assert!(!text.chars().any(|c| c.is_control() || is_invisible(c)));
            proptest::prop_assert!(unicode || text.is_ascii());
            let script = format!("printf %s {text}");
            let read = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
            proptest::prop_assert_eq!(read.stdout, word.into_bytes());
        }

        #[test]
        fn a_shell_reads_back_any_path(word in proptest::collection::vec(1..=u8::MAX, 0..24)) {
            use std::os::unix::ffi::OsStrExt;
            let text = shell_path(Path::new(std::ffi::OsStr::from_bytes(&word)), true);
            proptest::prop_assert!(!text.chars().any(|c| c.is_control() || is_invisible(c)));
            let script = format!("printf %s {text}");
            let read = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
            proptest::prop_assert_eq!(read.stdout, word);
        }
    }
}
