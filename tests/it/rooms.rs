// SPDX-License-Identifier: MIT OR Apache-2.0

//! The rooms of the source know each other as the table in docs/architecture.md says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use walkdir::WalkDir;

/// Each room with those that it may know.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string("docs/architecture.md").unwrap();
    let rows = text.lines().skip_while(|line| *line != "| room | may know |").skip(2);
    let cells = rows.map_while(|row| row.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    let rows: Vec<(&str, &str)> = cells.collect();
    let names = |cell: &str| -> BTreeSet<String> { cell.split(", ").map(str::to_owned).collect() };
    let rooms: BTreeSet<String> = rows.iter().flat_map(|(rooms, _)| names(rooms)).collect();
    let may_know = |cell: &str| match cell {
        cell if cell.starts_with("nothing of ours") => BTreeSet::new(),
        cell if cell.starts_with("all of these but ") => {
            let but = cell.trim_start_matches("all of these but ");
            rooms.iter().filter(|room| *room != but).cloned().collect()
        }
        cell => names(cell),
    };
    let table = rows
        .iter()
        .flat_map(|(rooms, cell)| names(rooms).into_iter().map(move |room| (room, may_know(cell))));
    table.collect()
}

/// The room that a file of the source belongs to; none of those that only put the rooms together.
fn room(file: &Path) -> Option<String> {
    let first = file.strip_prefix("src").unwrap().components().next()?;
    let name = Path::new(first.as_os_str()).file_stem()?.to_str()?;
    (!["lib", "main"].contains(&name)).then(|| name.to_owned())
}

/// The rooms that a text names after `crate::`, also within braces.
fn known(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = code.flat_map(|line| [line, "\n"]).collect();
    let word =
        |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let after = &code[at + "crate::".len()..];
        match after.strip_prefix('{') {
            Some(group) => rooms.extend(
                group
                    .split(';')
                    .next()
                    .unwrap_or_default()
                    .split(['{', '}', ','])
                    .map(|name| word(name.trim())),
            ),
            None => rooms.extend([word(after)]),
        }
    }
    rooms
}

#[test]
fn each_room_knows_only_those_that_the_table_allows() {
    let table = table();
    assert_eq!(table.len(), 10, "{table:?}");
    let mut strangers = Vec::new();
    for entry in WalkDir::new("src").sort_by_file_name() {
        let path = entry.unwrap().into_path();
        let Some(own) = room(&path).filter(|_| path.extension().is_some_and(|extension| extension == "rs"))
        else {
            continue;
        };
        let may_know = table.get(&own).unwrap_or_else(|| panic!("{own} is no room of the table"));
        let known = known(&fs::read_to_string(&path).unwrap());
        let others = known.iter().filter(|name| table.contains_key(*name) && **name != own);
        strangers.extend(
            others.filter(|name| !may_know.contains(*name)).map(|name| format!("{path:?} knows {name}")),
        );
    }
    assert_eq!(strangers, Vec::<String>::new());
}

#[test]
fn an_import_within_braces_is_seen() {
    let text = "use crate::{model, sys::stat};\nuse crate::walk::{self, Root};\n// use crate::cli;\n";
    let names = known(text);
    assert!(["model", "sys", "walk"].iter().all(|room| names.contains(*room)), "{names:?}");
    assert!(!names.contains("cli"), "a comment is no import");
}
