// SPDX-License-Identifier: MIT OR Apache-2.0

//! Words and widths.

use std::time::{Duration, SystemTime};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `text` in lines of at most `width` columns, broken at blanks. A longer word stays whole.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.trim().is_empty() && line.width() + 1 + word.width() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// `text` cut from its start to `width` columns, with a sign that it was: the end of a path tells
/// most.
pub(super) fn cut_start(text: &str, width: usize, unicode: bool) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let sign = ellipsis(unicode);
    let room = width.saturating_sub(sign.width());
    let mut kept = 0;
    let mut start = text.len();
    for (index, character) in text.char_indices().rev() {
        kept += character.width().unwrap_or(0);
        if kept > room {
            break;
        }
        start = index;
    }
    format!("{sign}{}", &text[start..])
}

/// `text` cut from its end to `width` columns.
pub(super) fn cut_end(text: &str, width: usize, unicode: bool) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let sign = ellipsis(unicode);
    let room = width.saturating_sub(sign.width());
    let mut kept = 0;
    let head = text.chars().take_while(|character| {
        kept += character.width().unwrap_or(0);
        kept <= room
    });
    head.collect::<String>() + sign
}

fn ellipsis(unicode: bool) -> &'static str {
    if unicode { "\u{2026}" } else { "..." }
}

/// `text` filled with blanks to `width` columns.
pub(super) fn pad_end(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// The same with the blanks in front.
pub(super) fn pad_start(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(text.width())))
}

/// `a, b and c`
pub(super) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// `2 s ago`
pub(super) fn ago(then: SystemTime, now: SystemTime) -> String {
    match now.duration_since(then) {
        Ok(past) => format!("{} ago", rough(past)),
        Err(future) => format!("in {}", rough(future.duration())),
    }
}

fn rough(duration: Duration) -> String {
    const STEPS: [(u64, &str); 5] = [(365 * 86_400, "y"), (86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let seconds = duration.as_secs();
    let (length, name) = STEPS.into_iter().find(|(length, _)| seconds >= *length).unwrap_or((1, "s"));
    format!("{} {name}", seconds / length)
}

/// `3.2 s`
pub(super) fn elapsed(milliseconds: u64) -> String {
    match milliseconds {
        0..100 => format!("{milliseconds} ms"),
        100..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_break_at_blanks_and_keep_double_ones() {
        assert_eq!(wrap("a  b c", 80), ["a  b c"]);
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("one  two", 5), ["one ", "two"]);
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
    }

    #[test]
    fn times_are_rough() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000);
        let past = |seconds| ago(now - Duration::from_secs(seconds), now);
        assert_eq!(past(0), "0 s ago");
        assert_eq!(past(2519), "41 min ago");
        assert_eq!(past(6 * 86_400 + 5), "6 d ago");
        assert_eq!(ago(now + Duration::from_secs(61), now), "in 1 min");
        assert_eq!(
            (elapsed(12), elapsed(3249), elapsed(125_000)),
            ("12 ms".into(), "3.2 s".into(), "2 min 5 s".into())
        );
    }

    proptest! {
        #[test]
        fn nothing_cut_is_wider_than_asked(text in "\\PC{0,40}", width in 3usize..30) {
            for unicode in [true, false] {
                prop_assert!(cut_start(&text, width, unicode).width() <= width);
                prop_assert!(cut_end(&text, width, unicode).width() <= width);
            }
            prop_assert!(pad_end(&text, width).width() >= width);
        }
    }
}
