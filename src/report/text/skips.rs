// SPDX-License-Identifier: MIT OR Apache-2.0

//! What could not be seen and matters, and how to see it. The list has what does not matter, too.

use std::collections::{BTreeMap, BTreeSet};

use super::Screen;
use super::layout::list as in_words;
use super::table::{self, Align, column, expendable};
use crate::model::bytes::grouped;
use crate::model::escape::{quoted, shell};
use crate::model::skips::Kind;
use crate::report::{Filesystem, Skipped, names};

/// How to say what was skipped.
pub(super) struct Context<'a> {
    /// How many processes were looked into.
    pub(super) processes_read: u64,
    /// Whether this was root's run.
    pub(super) as_root: bool,
    /// The command that shows more to root.
    pub(super) command: &'a str,
}

/// What of one filesystem could not be seen. Processes are the same for all filesystems of a report:
/// told here only if this is the only one.
pub(super) fn of_filesystem(screen: &mut Screen<'_>, filesystem: &Filesystem, alone: bool, as_root: bool) {
    if filesystem.skipped.iter().any(|skipped| skipped.kind == Kind::Outside) {
        let what = if filesystem.traits.is_overlay() {
            "This is an overlay. Its files are on a filesystem that cannot be seen from here.".to_owned()
        } else {
            format!("Only {} of this filesystem is mounted here.", screen.path(&filesystem.root))
        };
        paragraph(screen, &format!("{what} The rest of that filesystem is not counted as visible."));
    }
    // What lies outside has been told, unless there is a way to it.
    let told = |skipped: &&Skipped| {
        let is_new = skipped.kind != Kind::Outside || skipped.needs.is_some();
        skipped.matters && is_new && (alone || !is_of_processes(skipped))
    };
    let path = screen.path(&filesystem.mountpoint);
    // What had to be escaped cannot be typed as it is shown.
    let typed = filesystem.mountpoint.to_str().filter(|name| *name == path).map(quoted);
    let command = format!("whyfull {}", typed.as_deref().unwrap_or("--all"));
    let context = Context { processes_read: filesystem.processes_read, as_root, command: &command };
    write(screen, &filesystem.skipped.iter().filter(told).collect::<Vec<_>>(), &context);
}

/// The processes that could not be seen, for a report on several filesystems.
pub(super) fn of_processes(screen: &mut Screen<'_>, filesystems: &[Filesystem], as_root: bool) {
    let processes = |filesystem: &&Filesystem| filesystem.skipped.iter().any(is_of_processes);
    if let Some(filesystem) = filesystems.iter().find(processes) {
        let skipped = filesystem.skipped.iter().filter(|skipped| is_of_processes(skipped));
        let context =
            Context { processes_read: filesystem.processes_read, as_root, command: "whyfull --all" };
        write(screen, &skipped.collect::<Vec<_>>(), &context);
        screen.blank();
    }
}

fn is_of_processes(skipped: &Skipped) -> bool {
    skipped.matters && matches!(skipped.kind, Kind::Process | Kind::Unlisted)
}

/// One sentence for what more rights would show, with the command; one for what they would not.
pub(super) fn write(screen: &mut Screen<'_>, skipped: &[&Skipped], context: &Context<'_>) {
    let (denied, other): (Vec<&Skipped>, Vec<&Skipped>) =
        skipped.iter().partition(|skipped| skipped.needs.is_some());
    let refused = skipped.iter().filter(|skipped| skipped.kind == Kind::Process).count() as u64;
    let processes = context.processes_read + refused;
    if !denied.is_empty() {
        let what = counts(&denied, processes);
        if context.as_root {
            let needs = distinct(denied.iter().filter_map(|skipped| skipped.needs));
            paragraph(screen, &format!("Could not be inspected: {what}. This needs {}.", in_words(&needs)));
        } else {
            paragraph(screen, &format!("You may not look into {what}. To see them:"));
            screen.blank();
            screen.line(&format!("      sudo {}", context.command));
        }
    }
    if !other.is_empty() {
        let errors = distinct(other.iter().filter_map(|skipped| skipped.errno.as_deref()));
        let errors = if errors.is_empty() { String::new() } else { format!(" ({})", errors.join(", ")) };
        paragraph(screen, &format!("Could not be read: {}{errors}.", counts(&other, processes)));
    }
    damage(screen, &other);
}

/// What says more of a damaged filesystem.
fn damage(screen: &mut Screen<'_>, skipped: &[&Skipped]) {
    let checks: BTreeSet<&Vec<String>> =
        skipped.iter().filter_map(|skipped| skipped.check.as_ref()).collect();
    for check in checks {
        let words: Vec<String> = check.iter().map(|word| shell(word, screen.style.unicode)).collect();
        paragraph(
            screen,
            "The filesystem or its disk is damaged. Unmount it, then run this check, which changes nothing:",
        );
        screen.blank();
        screen.line(&format!("      sudo {}", words.join(" ")));
    }
}

/// Each word once, in order.
fn distinct<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    words.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
}

fn paragraph(screen: &mut Screen<'_>, text: &str) {
    screen.blank();
    screen.sentence(text);
}

/// `389 of 412 processes, 37 directories and 4 mounts`
fn counts(skipped: &[&Skipped], processes: u64) -> String {
    let mut by_kind: BTreeMap<Kind, usize> = BTreeMap::new();
    for skipped in skipped {
        *by_kind.entry(skipped.kind).or_default() += 1;
    }
    // Hidden by /proc, more rights show them.
    let hidden = skipped.iter().any(|skipped| skipped.kind == Kind::Unlisted && skipped.needs.is_some());
    // Processes first: what they hold is what is looked for most.
    let mut kinds: Vec<(Kind, usize)> = by_kind.into_iter().collect();
    kinds.sort_by_key(|(kind, _)| *kind != Kind::Process);
    let words: Vec<String> = kinds
        .into_iter()
        .map(|(kind, count)| {
            let count_text = grouped(count as u64);
            match kind {
                Kind::Process => format!("{count_text} of {} processes", grouped(processes)),
                Kind::Unlisted if hidden => "the processes that /proc hides".to_owned(),
                Kind::Unlisted => "processes outside this pid namespace (a container?)".to_owned(),
                _ => format!("{count_text} {}", kind.noun(count)),
            }
        })
        .collect();
    in_words(&words)
}

/// Everything that was skipped, a line each.
pub(super) fn list(screen: &mut Screen<'_>, skipped: &[Skipped]) {
    if skipped.is_empty() {
        return;
    }
    screen.blank();
    screen.line("Skipped:");
    screen.blank();
    let names = &*screen;
    let row = |skipped: &Skipped| {
        vec![
            names::skip_kind(skipped.kind).to_owned(),
            skipped.errno.clone().unwrap_or_default(),
            skipped.needs.unwrap_or_default().to_owned(),
            match (skipped.kind, skipped.inode) {
                (Kind::Inode, Some(inode)) => format!("{} (inode {inode})", names.path(&skipped.path)),
                _ => names.path(&skipped.path),
            },
        ]
    };
    let rows: Vec<Vec<String>> = skipped.iter().map(row).collect();
    table::write(
        screen,
        &[
            column("KIND", Align::Left),
            expendable("ERROR", Align::Left, 2),
            expendable("NEEDS", Align::Left, 1),
            column("PATH", Align::GivesWay),
        ],
        &rows,
    );
}
