// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the terminal can show.

use std::io::{self, IsTerminal};

use terminal_size::{Width, terminal_size_of};

/// The widest screen that is used, and the width where there is no terminal.
const WIDTH: usize = 100;
/// Narrower ones break the lines themselves.
const NARROWEST: usize = 40;

/// Columns to use; those of the terminal only if the text goes there.
pub(super) fn width(to_stdout: bool) -> usize {
    let stdout = io::stdout();
    let columns = if to_stdout && stdout.is_terminal() { terminal_size_of(stdout) } else { None };
    columns.map_or(WIDTH, |(Width(columns), _)| usize::from(columns).clamp(NARROWEST, WIDTH))
}

/// Whether the locale's character set is UTF-8: locale(7), the first of the variables that is set.
pub(super) fn is_unicode() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty());
    let name = set.unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    name.contains("utf-8") || name.contains("utf8")
}
