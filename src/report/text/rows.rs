// SPDX-License-Identifier: MIT OR Apache-2.0

//! The rows of the ledger with their bars. The numbers that are printed add up, too.

use std::borrow::Cow;
use std::cmp::Reverse;

use super::layout::{cut_end, pad_end, pad_start};
use super::{LOUD, QUIET, Screen};
use crate::model::bytes::{Bytes, Gap, Scale, grouped};
use crate::model::ledger::Cause;
use crate::report::{Filesystem, Row};

/// Columns of the names of the rows.
const LABEL: usize = 20;
/// Columns of the bar on a wide screen.
const BAR: usize = 40;
/// Columns that a note takes at least.
const NOTE: usize = 24;
/// Columns below which there is no bar.
const BAR_FROM: usize = 72;

/// The sentence that names the gap, and a row for each part of it.
pub(super) fn write(screen: &mut Screen<'_>, filesystem: &Filesystem) {
    let excess = filesystem.gap_bytes < Gap(0);
    let turn = |bytes: Gap| if excess { Gap(0) - bytes } else { bytes };
    let scale = screen.style.units.scale_of(filesystem.gap_bytes.magnitude());
    let gap_steps = sentence(screen, filesystem, scale);
    let mut rows: Vec<&Row> = filesystem.ledger.iter().filter(|row| row.cause != Cause::Visible).collect();
    rows.sort_by_key(|row| (row.cause == Cause::Unexplained, Reverse(row.bytes.magnitude())));
    let parts: Vec<Gap> = rows.iter().map(|row| turn(row.bytes)).collect();
    let steps = apportion(gap_steps, &parts, scale);
    let shown: Vec<(&Row, i64)> = rows.into_iter().zip(steps).filter(|(_, steps)| *steps != 0).collect();
    let most = shown.iter().map(|(_, steps)| steps.abs()).max().unwrap_or(0);
    let amounts: Vec<String> = shown.iter().map(|(_, steps)| scale.text_of(*steps)).collect();
    let width = amounts.iter().map(String::len).max().unwrap_or(0).max(9);
    screen.blank();
    for ((row, steps), amount) in shown.iter().zip(amounts) {
        let label = pad_end(&label(row, filesystem), LABEL);
        let bar = bar(screen, steps.abs(), most.max(gap_steps.abs()));
        let used = 2 + LABEL + 1 + width + 2 + bar.chars().count();
        let note = note(screen, row, filesystem, scale);
        let note = cut_end(&note, screen.style.width.saturating_sub(used), screen.style.unicode);
        let loud = if steps.abs() == most { LOUD } else { anstyle::Style::new() };
        let amount = pad_start(&amount, width);
        let start = format!("  {label} {loud}{amount}");
        if note.is_empty() {
            screen.line(&format!("{start}  {}{loud:#}", bar.trim_end()));
        } else {
            screen.line(&format!("{start}  {bar}{loud:#}{QUIET}{note}{QUIET:#}"));
        }
    }
}

/// Says what the gap is; returns it in steps of the last printed digit.
fn sentence(screen: &mut Screen<'_>, filesystem: &Filesystem, scale: Scale) -> i64 {
    let units = screen.style.units;
    let (used, visible) = (filesystem.capacity.used_bytes, filesystem.visible_bytes);
    let gap = scale.steps(filesystem.gap_bytes);
    if gap < 0 {
        let (visible, gap) = (units.format(visible), scale.text_of(gap.saturating_neg()));
        screen.sentence(&format!(
            "The files you can see add up to {visible}, {gap} more than the filesystem holds:"
        ));
        return scale.steps(filesystem.gap_bytes).abs();
    }
    let (mut visible, mut gap) = (units.format(visible), gap);
    if units.scale_of(used) == scale {
        let used = scale.steps(Gap::from(used));
        let parts = apportion(used, &[Gap::from(filesystem.visible_bytes), filesystem.gap_bytes], scale);
        gap = parts[1];
        if parts[0] != 0 {
            visible = scale.text_of(parts[0]);
        }
    }
    let (used, text) = (units.format(used), scale.text_of(gap));
    screen.sentence(&format!(
        "The files you can see add up to {visible}, but {used} are used. The other {text} are:"
    ));
    gap
}

/// Each part in steps of the last printed digit, so that they add up to `total`: rounded down, and
/// what is missing then given to those that lost most (the largest remainder method).
fn apportion(total: i64, parts: &[Gap], scale: Scale) -> Vec<i64> {
    let (mut steps, remainders): (Vec<i64>, Vec<u128>) = parts.iter().map(|part| scale.floor(*part)).unzip();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&index| Reverse(remainders[index]));
    let missing = total.saturating_sub(steps.iter().fold(0, |sum: i64, steps| sum.saturating_add(*steps)));
    for index in order.iter().cycle().take(usize::try_from(missing).unwrap_or(0).min(parts.len() * 2)) {
        steps[*index] += 1;
    }
    let excess = usize::try_from(missing.saturating_neg()).unwrap_or(0).min(parts.len() * 2);
    for index in order.iter().rev().cycle().take(excess) {
        steps[*index] -= 1;
    }
    steps
}

fn label(row: &Row, filesystem: &Filesystem) -> Cow<'static, str> {
    let clones = filesystem.traits.shared_extents;
    let label = match row.cause {
        Cause::Metadata => return format!("internal to {}", filesystem.fstype).into(),
        Cause::Visible => "visible",
        Cause::HiddenByMount => "hidden under a mount",
        Cause::OutsideMount => "outside this mount",
        Cause::UnlinkedOpen => "deleted, still open",
        Cause::UnlinkedKernel => "deleted, kernel-held",
        Cause::UnlinkedUnattributed => "deleted, still held",
        Cause::Shared => "shared",
        Cause::Unreachable => "deleted, not freed",
        Cause::Reservation => "not written yet",
        Cause::Unexplained if row.bytes < Gap(0) && clones => "shared or compressed",
        Cause::Unexplained if row.bytes > Gap(0) && may_be_denied(filesystem) => "not readable by you",
        Cause::Unexplained => "unexplained",
    };
    label.into()
}

/// Whether what is unexplained may be what this user has no right to read.
fn may_be_denied(filesystem: &Filesystem) -> bool {
    filesystem.skipped.iter().any(|skipped| skipped.needs.is_some())
}

fn note(screen: &Screen<'_>, row: &Row, filesystem: &Filesystem, scale: Scale) -> String {
    match row.cause {
        Cause::UnlinkedOpen => files(row),
        Cause::UnlinkedKernel => format!("{}, no process", files(row)),
        Cause::UnlinkedUnattributed => format!("{}, holder unknown", files(row)),
        Cause::HiddenByMount => hidden(screen, filesystem),
        Cause::OutsideMount => format!("mounted: {}", screen.path(&filesystem.root)),
        Cause::Unexplained if row.bytes > Gap(0) && may_be_denied(filesystem) => {
            "at most; see below".to_owned()
        }
        Cause::Unexplained if filesystem.unexplained_bound_bytes > Bytes::ZERO => {
            let sign = if screen.style.unicode { "\u{b1}" } else { "+/-" };
            format!("{sign} {}", scale.format(filesystem.unexplained_bound_bytes))
        }
        Cause::Unexplained if row.bytes > Gap(0) => {
            format!("may be {}'s own data", screen.name(filesystem.fstype.as_bytes()))
        }
        Cause::Shared | Cause::Metadata => largest_part(row).to_owned(),
        Cause::Unreachable => match filesystem.traits.tools.repair {
            Some(command) => format!("run {} to free it", command.program()),
            None => "nothing leads to it".to_owned(),
        },
        Cause::Reservation => "data in memory".to_owned(),
        Cause::Visible | Cause::Unexplained => String::new(),
    }
}

fn files(row: &Row) -> String {
    let count = row.inodes.unwrap_or(0);
    format!("{} {}", grouped(count), if count == 1 { "file" } else { "files" })
}

/// What makes up most of a row.
fn largest_part(row: &Row) -> &str {
    let largest = row.detail.iter().max_by_key(|detail| detail.bytes.magnitude());
    largest.map_or("", |detail| detail.name.as_str())
}

/// The mount point that hides most, and how many more there are.
fn hidden(screen: &Screen<'_>, filesystem: &Filesystem) -> String {
    let mut hiding = filesystem.hidden.iter().filter(|hidden| hidden.bytes > Bytes::ZERO);
    let Some(first) = hiding.next() else { return String::new() };
    let first = screen.path(&first.mountpoint);
    match hiding.count() {
        0 => first,
        more => {
            let more = format!(" and {more} more");
            cut_end(&first, NOTE.saturating_sub(more.len()), screen.style.unicode) + &more
        }
    }
}

/// A bar in eighths of a block, two blanks behind it; nothing on a narrow screen.
fn bar(screen: &Screen<'_>, steps: i64, whole: i64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let style = screen.style;
    if style.width < BAR_FROM {
        return String::new();
    }
    let room = style.width.saturating_sub(2 + LABEL + 1 + 9 + 2 + 2 + NOTE).min(BAR);
    let (steps, whole) = (u128::from(steps.unsigned_abs()), u128::from(whole.unsigned_abs().max(1)));
    let eighths = usize::try_from(steps * room as u128 * 8 / whole).unwrap_or(0).clamp(1, room * 8);
    let bar = if style.unicode {
        format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
    } else {
        "#".repeat(eighths.div_ceil(8))
    };
    pad_end(&bar, room + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bytes::Units;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn printed_parts_add_up_and_none_is_off_by_more_than_a_digit(
            parts in proptest::collection::vec(-(1i64 << 50)..1 << 50, 1..6)
        ) {
            let parts: Vec<Gap> = parts.into_iter().map(Gap).collect();
            let whole: Gap = parts.iter().copied().sum();
            let scale = Units::Binary.scale_of(whole.magnitude());
            let steps = apportion(scale.steps(whole), &parts, scale);
            prop_assert_eq!(steps.iter().sum::<i64>(), scale.steps(whole));
            for (part, steps) in parts.iter().zip(steps) {
                prop_assert!((scale.steps(*part) - steps).abs() <= 1);
            }
        }
    }
}
