// SPDX-License-Identifier: MIT OR Apache-2.0

//! What would free the space: a line for each thing to do, and below the first what else can be done about
//! the same files.

use super::Screen;
use super::layout::{pad_end, pad_start, wrap};
use crate::model::bytes::Bytes;
use crate::model::escape::shell;
use crate::model::remedies::Action;
use crate::report::{Filesystem, Remedy};
use unicode_width::UnicodeWidthStr;

/// Where commands below the first begin, counted from it.
const LABEL_WIDTH: usize = 20;
/// How far commands are set in where there is no room for that.
const NARROW: usize = 4;

pub(super) fn write(screen: &mut Screen<'_>, filesystem: &Filesystem) {
    let shown = shown(&filesystem.remedies, screen.style.top);
    if shown.is_empty() {
        return;
    }
    screen.blank();
    screen.line("To free it:");
    screen.blank();
    let amounts: Vec<String> =
        shown.iter().map(|remedy| screen.style.units.format(remedy.frees_bytes)).collect();
    let amount_width = amounts.iter().map(|amount| amount.width()).max().unwrap_or(0);
    let indent = amount_width + 4;
    let commands: Vec<String> = shown.iter().map(|remedy| command(screen, remedy)).collect();
    let room = screen.style.width.saturating_sub(indent);
    let widest = commands.iter().map(|command| command.width()).max().unwrap_or(0);
    let longest_note = shown.iter().map(|remedy| note(remedy).width()).max().unwrap_or(0);
    // In a column of their own only if there is room for all.
    let column = if widest + 2 + longest_note <= room { widest } else { 0 };
    for (index, ((remedy, command), amount)) in shown.iter().zip(&commands).zip(&amounts).enumerate() {
        let command = with_note(command, note(remedy), column, room);
        screen.line(&format!("  {}  {command}", pad_start(amount, amount_width)));
        if let Some(warning) = remedy.warning {
            beware(screen, indent, warning);
        }
        if index == 0 {
            others(screen, indent, remedy, &filesystem.remedies);
        }
    }
}

/// A command with its note: in a column for all notes, or right behind, or not at all.
fn with_note(command: &str, note: &str, column: usize, room: usize) -> String {
    if command.width() <= column && column + 2 + note.width() <= room {
        format!("{}  {note}", pad_end(command, column))
    } else if command.width() + 2 + note.width() <= room {
        format!("{command}  {note}")
    } else {
        command.to_owned()
    }
}

/// Of each group the least harmful, and what frees more than that.
fn shown(remedies: &[Remedy], top: usize) -> Vec<&Remedy> {
    let mut group = None;
    let mut freed = Bytes::ZERO;
    let more = |remedy: &&Remedy| {
        if group != Some(remedy.group) {
            (group, freed) = (Some(remedy.group), Bytes::ZERO);
        }
        let frees_more = remedy.frees_bytes > freed;
        freed = freed.max(remedy.frees_bytes);
        frees_more
    };
    remedies.iter().filter(more).take(top).collect()
}

/// What else can be done about the largest file of that group.
fn others(screen: &mut Screen<'_>, indent: usize, shown: &Remedy, all: &[Remedy]) {
    let others: Vec<&Remedy> =
        all.iter().filter(|other| other.group == shown.group && *other != shown).collect();
    let of = |action| others.iter().find(|other| other.action == action);
    let copies = others.iter().filter(|other| other.action == Action::Recover).count();
    let largest = if copies > 1 { format!("(the largest of {copies})") } else { String::new() };
    let copy =
        of(Action::Recover).map(|copy| ("keep a copy first:", command(screen, copy), largest.as_str()));
    let restart = of(Action::RestartUnit).filter(|restart| restart.frees_bytes <= shown.frees_bytes);
    let restart = restart.map(|restart| ("if that fails:", command(screen, restart), note(restart)));
    let is_signal = shown.action == Action::ReopenLogs && restart.is_none();
    let without = if is_signal { "if that fails:" } else { "without a restart:" };
    let release = of(Action::Release).filter(|release| release.warning.is_none());
    let release = release.map(|release| (without, command(screen, release), note(release)));
    let labelled: Vec<_> = [copy, restart, release].into_iter().flatten().collect();
    let room = screen.style.width.saturating_sub(indent);
    let beside = labelled.iter().all(|(_, command, _)| LABEL_WIDTH + command.width() <= room);
    for (label, command, note) in labelled {
        if beside {
            let command = with_note(&command, note, 0, room - LABEL_WIDTH);
            screen.line(&format!("{:indent$}{label:LABEL_WIDTH$}{command}", ""));
        } else {
            let indent_below = if command.width() <= room { indent } else { NARROW };
            let command = with_note(&command, note, 0, screen.style.width.saturating_sub(indent_below));
            screen.line(&format!("{:indent$}{label}", ""));
            screen.line(&format!("{:indent_below$}{command}", ""));
        }
    }
}

fn beware(screen: &mut Screen<'_>, indent: usize, warning: &str) {
    let room = screen.style.width.saturating_sub(indent);
    for line in wrap(&format!("beware: {warning}"), room) {
        screen.line(&format!("{:indent$}{line}", ""));
    }
}

/// As it can be copied.
fn command(screen: &Screen<'_>, remedy: &Remedy) -> String {
    let words: Vec<String> = remedy.command.iter().map(|word| shell(word, screen.style.unicode)).collect();
    format!("sudo {}", words.join(" "))
}

fn note(remedy: &Remedy) -> &'static str {
    match remedy.action {
        Action::ReopenLogs => "(reopens its logs)",
        Action::RestartUnit | Action::RestartContainer => "(the deleted data is lost)",
        Action::DetachLoop | Action::Unmount | Action::Release => "(its data is lost)",
        Action::ListHidden => "(lists the hidden files)",
        Action::Recover => "",
    }
}
