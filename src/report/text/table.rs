// SPDX-License-Identifier: MIT OR Apache-2.0

//! Columns of text: as wide as what is in them, one of them giving way.

use super::layout::{cut_start, pad_end, pad_start};
use super::{QUIET, Screen};
use unicode_width::UnicodeWidthStr;

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
    /// Left, and cut from its start when the line is too long.
    GivesWay,
}

/// A column and its heading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    heading: &'static str,
    align: Align,
    /// Left out when there is no room; the one with the highest number first.
    expendable: u8,
}

/// A column that is always there.
pub(super) fn column(heading: &'static str, align: Align) -> Column {
    Column { heading, align, expendable: 0 }
}

/// A column that is left out when there is no room, the one with the highest number first.
pub(super) fn expendable(heading: &'static str, align: Align, number: u8) -> Column {
    Column { heading, align, expendable: number }
}

/// What is left at least of a column that gives way.
const LEAST: usize = 14;

/// Writes the columns, two blanks apart and two from the edge.
pub(super) fn write(screen: &mut Screen<'_>, columns: &[Column], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = columns.iter().map(|column| column.heading.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let shown = fit(columns, &mut widths, screen.style.width);
    let unicode = screen.style.unicode;
    let set = |cell: &dyn Fn(usize) -> String| {
        let cells = shown.iter().map(|&index| match columns[index].align {
            Align::Right => pad_start(&cell(index), widths[index]),
            Align::Left => pad_end(&cell(index), widths[index]),
            Align::GivesWay => pad_end(&cut_start(&cell(index), widths[index], unicode), widths[index]),
        });
        format!("  {}", cells.collect::<Vec<_>>().join("  "))
    };
    let headings = set(&|index| columns[index].heading.to_owned());
    if !headings.trim().is_empty() {
        screen.line(&format!("{QUIET}{}{QUIET:#}", headings.trim_end()));
    }
    for row in rows {
        screen.line(&set(&|index| row[index].clone()));
    }
}

/// The columns for which there is room; narrows the one that gives way.
fn fit(columns: &[Column], widths: &mut [usize], room: usize) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..columns.len()).filter(|&index| widths[index] > 0).collect();
    loop {
        let total: usize = shown.iter().map(|&index| widths[index] + 2).sum();
        let excess = total.saturating_sub(room);
        let flexible = shown.iter().copied().find(|&index| columns[index].align == Align::GivesWay);
        let slack = flexible.map_or(0, |index| widths[index].saturating_sub(LEAST));
        let worst = shown.iter().copied().filter(|&index| columns[index].expendable > 0);
        let worst = worst.max_by_key(|&index| columns[index].expendable);
        match (worst, flexible) {
            (Some(worst), _) if slack < excess => shown.retain(|&index| index != worst),
            (_, Some(flexible)) => {
                widths[flexible] -= slack.min(excess);
                return shown;
            }
            (_, None) => return shown,
        }
    }
}
