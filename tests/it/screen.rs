// SPDX-License-Identifier: MIT OR Apache-2.0

//! The text screen: widths, colour, locales, units, and names that would like to
//! take over the terminal.

use crate::support::filesystem::Filesystem;
use crate::support::holder::Holder;
use crate::support::report::{list, number, only, report};
use crate::support::whyfull::{Run, Whyfull, whyfull};
use crate::support::{MIB, tree};
use unicode_width::UnicodeWidthStr;

/// A filesystem with something in every part of the screen.
struct Scene {
    // What holds goes before what it is held in.
    holder: Holder,
    fs: Filesystem,
}

impl Scene {
    fn new() -> Self {
        let fs = Filesystem::ext4(64 * MIB);
        tree::nasty(&fs.path().join("tree"), 1);
        let holder = Holder::start_sized("hostile-name", fs.path(), 8 * MIB);
        Self { holder, fs }
    }

    fn whyfull(&self) -> Whyfull {
        whyfull().arg(self.fs.path())
    }

    /// What `recover` and `release` take.
    fn handle(&self) -> String {
        format!("{}:{}", self.holder.pid(), self.holder.fd())
    }
}

fn widest(run: &Run) -> usize {
    run.text().lines().map(|line| line.trim_end_matches('\r').width()).max().unwrap()
}

fn coloured(run: &Run) -> bool {
    run.stdout.contains(&0x1b)
}

#[test]
fn no_line_is_wider_than_100_columns_when_piped() {
    require_root!();
    let scene = Scene::new();
    for args in [[].as_slice(), &["-v"], &["-b"], &["--dirs", "20", "-d3"]] {
        let run = scene.whyfull().args(args).run();
        assert!(widest(&run) <= 100, "{run:?}");
    }
    let run = scene.whyfull().by_nobody().arg("-v").run();
    assert!(widest(&run) <= 100, "{run:?}");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    require_root!();
    let scene = Scene::new();
    for columns in [120, 100, 80, 72, 60] {
        let run = scene.whyfull().on_terminal(columns).arg("--color=never").run();
        assert!(matches!(run.code(), Some(0 | 1)), "{run:?}");
        assert!(widest(&run) <= usize::from(columns), "{columns}: {run:?}");
        assert!(run.text().contains(&scene.handle()), "{columns}: {run:?}");
    }
}

#[test]
fn the_holder_is_named_with_what_other_commands_take() {
    require_root!();
    let scene = Scene::new();
    let run = scene.whyfull().run();
    let row = run.text().lines().find(|line| line.contains(&scene.handle()));
    let row = row.unwrap_or_else(|| panic!("{run:?}"));
    assert!(row.contains("holder"), "{row}");
    assert!(row.contains("8.0 MiB"), "{row}");
}

#[test]
fn hostile_names_never_reach_the_screen_raw() {
    require_root!();
    let scene = Scene::new();
    for run in [
        scene.whyfull().args(&["-v", "--dirs", "100", "-d9"]).run(),
        scene.whyfull().arg("-v").by_nobody().run(),
        scene.whyfull().env("LC_ALL", Some("C")).run(),
        scene.whyfull().on_terminal(90).arg("--color=never").run(),
    ] {
        let stray = run.text().chars().find(|&c| !printable(c));
        assert_eq!(stray, None, "{run:?}");
    }
    // The whole name is in the row of its holder: no line break got through.
    let run = scene.whyfull().run();
    let row = run.text().lines().find(|line| line.contains(&scene.handle()));
    let row = row.unwrap();
    assert!(row.contains("end"), "{run:?}");
    assert!(!run.text().contains('\u{fffd}'), "escaped, not replaced: {run:?}");
}

/// Neither a control character nor one that changes the direction of the text.
fn printable(c: char) -> bool {
    let marks = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{feff}'];
    let directions = '\u{202a}'..='\u{202e}';
    let isolates = '\u{2066}'..='\u{2069}';
    let hidden = marks.contains(&c) || directions.contains(&c) || isolates.contains(&c);
    !hidden && (!c.is_control() || c == '\n' || c == '\r')
}

#[test]
fn without_utf8_everything_is_ascii() {
    require_root!();
    let scene = Scene::new();
    for locale in [Some("C"), Some("POSIX"), Some("en_US.ISO-8859-1"), None] {
        let run = scene.whyfull().env("LC_ALL", locale).arg("-v").run();
        assert!(run.stdout.is_ascii(), "{locale:?}: {run:?}");
        assert!(run.stderr.is_ascii(), "{locale:?}: {run:?}");
    }
    let run = scene.whyfull().env("LC_ALL", None).env("LANG", Some("de_DE.UTF-8"));
    let run = run.run();
    assert!(!run.stdout.is_ascii(), "LANG alone says UTF-8 too: {run:?}");
}

#[test]
fn colour_only_where_it_is_wanted() {
    require_root!();
    let scene = Scene::new();
    let piped = || scene.whyfull().env("TERM", Some("xterm-256color"));
    let shown = || piped().on_terminal(100);
    let mut wrong = vec![];
    for (run, expected) in [
        (piped(), false),
        (piped().arg("--color=auto"), false),
        (piped().arg("--color=always"), true),
        (piped().arg("--color=never"), false),
        (piped().env("CLICOLOR_FORCE", Some("1")), true),
        (piped().env("CLICOLOR_FORCE", Some("0")), false),
        (piped().env("NO_COLOR", Some("1")).arg("--color=always"), true),
        (shown(), true),
        (shown().arg("--color=never"), false),
        (shown().env("NO_COLOR", Some("1")), false),
        (shown().env("NO_COLOR", Some("")), true),
        (shown().env("TERM", Some("dumb")), false),
        (shown().env("TERM", Some("dumb")).arg("--color=always"), true),
    ] {
        let command = format!("{:?}", run.command());
        if coloured(&run.run()) != expected {
            wrong.push((command, expected));
        }
    }
    assert!(wrong.is_empty(), "expected colour: {wrong:#?}");
    let json = shown().arg("--json").arg("--color=always").run();
    assert!(!coloured(&json), "JSON has no colour: {json:?}");
}

#[test]
fn units() {
    require_root!();
    let scene = Scene::new();
    let binary = scene.whyfull().run();
    assert!(binary.text().contains("MiB"), "{binary:?}");
    let decimal = scene.whyfull().arg("--si").run();
    assert!(decimal.text().contains("MB"), "{decimal:?}");
    assert!(!decimal.text().contains("iB"), "{decimal:?}");
    let report = report(scene.fs.path());
    let exact = scene.whyfull().arg("--bytes").run();
    let digits: String = exact.text().chars().filter(|&c| c != ',').collect();
    for value in ["used_bytes", "size_bytes"] {
        let value = number(&only(&report)["capacity"][value]).to_string();
        assert!(digits.contains(&value), "{value}: {exact:?}");
    }
    assert!(!exact.text().contains("iB"), "{exact:?}");
}

#[test]
fn top_limits_the_holders_that_are_shown() {
    require_root!();
    let fs = Filesystem::tmpfs(64 * MIB);
    let holders: Vec<_> = (0..4)
        .map(|n| Holder::start_sized("fd", &fs.path().join(format!("file{n}")), (n + 1) * MIB))
        .collect();
    let shown = |args: &[&str]| {
        let run = whyfull().arg(fs.path()).args(args).run();
        let handles = holders.iter().map(|h| format!("{}:{}", h.pid(), h.fd()));
        handles.filter(|h| run.text().contains(h)).count()
    };
    assert_eq!(shown(&[]), 4);
    assert_eq!(shown(&["-n", "2"]), 2);
    assert_eq!(shown(&["--top=1"]), 1);
    // JSON is for programs: everything is in it.
    let report = whyfull().arg(fs.path()).args(&["-n1"]).report();
    assert_eq!(list(&only(&report)["deleted"]).len(), 4);
}
