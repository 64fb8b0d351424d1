// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the two commands that write have in common, and `recover`: from arguments to exit status.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::args::{Basics, Recover, ToRecover};
use super::aside::{self, Ask, Patience};
use super::{Exit, fail, stream, terminal};
use crate::commands::recover;
use crate::commands::refusal::Refusal;
use crate::model::escape;
use crate::model::monitor::Monitor;
use crate::report::text::{self, Detail, Style};
use crate::report::{Index, Recovered, json};

/// How a command ends, or why nothing was done.
pub(super) type Outcome = Result<Ending, Refusal>;

/// What a command has to say, and how it ends.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ending {
    output: String,
    /// What it did, in a few words, for when the output cannot be printed. Nothing, if it only looked.
    done: Option<String>,
    complaint: Option<String>,
    exit: Exit,
}

impl Ending {
    /// It did not do what it was asked for.
    pub(super) fn failed(complaint: &str) -> Self {
        let complaint = Some(complaint.to_owned());
        Self { output: String::new(), done: None, complaint, exit: Exit::Failure }
    }

    /// So it did, because it was interrupted.
    pub(super) fn interrupted(complaint: &str) -> Self {
        Self { exit: Exit::Interrupted, ..Self::failed(complaint) }
    }

    /// It did what `done` says.
    pub(super) fn done(output: String, done: String, exit: Exit) -> Self {
        Self { output, done: Some(done), complaint: None, exit }
    }

    /// It looked, as it was asked to.
    pub(super) fn looked(output: String) -> Self {
        Self { output, done: None, complaint: None, exit: Exit::Complete }
    }

    pub(super) fn print(self) -> Exit {
        if let Some(complaint) = self.complaint {
            fail(&complaint);
        }
        if self.output.is_empty() {
            return self.exit;
        }
        match (stream::print(self.output.as_bytes()), self.done) {
            (Ok(()), _) => self.exit,
            // What was done is done, whoever hears of it.
            (Err(message), Some(done)) => fail(&format!("{message}; {done}")),
            (Err(message), None) => fail(&message),
        }
    }
}

pub(super) fn recover(args: &Recover) -> Exit {
    let screen = Screen::of(&args.basics);
    let work = |monitor: &Monitor, _ask: Ask<'_>| {
        let outcome = match args.request() {
            Some(ToRecover::One(request)) => recover_one(&request, screen, monitor),
            Some(ToRecover::All(request)) => recover_all(&request, screen, monitor),
            // clap asks for both or for --all.
            None => return Ending::failed("neither WHAT and DEST nor --all"),
        };
        ending(outcome, "recover", monitor.is_cancelled())
    };
    let patience = Patience::ForEver { shows_progress: !args.basics.no_progress };
    aside::run(work, &|_| Ok(()), patience, args.basics.timeout)
}

fn recover_one(request: &recover::Request, screen: Screen, monitor: &Monitor) -> Outcome {
    let recovered: Recovered = recover::recover(request, monitor)?;
    let exit = if monitor.is_cancelled() { Exit::Interrupted } else { Exit::Complete };
    let done = format!("but the file was recovered as {}", escape::path(&recovered.copied.destination));
    Ok(Ending::done(screen.print(&recovered, text::render_recovered)?, done, exit))
}

fn recover_all(request: &recover::AllRequest, screen: Screen, monitor: &Monitor) -> Outcome {
    let (index, unwritten): (Index, _) = recover::recover_all(request, monitor)?;
    let exit = match (&unwritten, index.interrupted, index.complete) {
        (_, true, _) => Exit::Interrupted,
        (Some(_), ..) => Exit::Failure,
        (None, _, true) => Exit::Complete,
        (None, ..) => Exit::Incomplete,
    };
    let (copied, of) = (index.files.iter().filter(|file| file.copied.is_some()).count(), index.files.len());
    let done = format!("but {copied} of {of} files were recovered into {}", escape::path(&request.directory));
    let output = screen.print(&index, text::render_index)?;
    let complaint = unwritten.map(|refusal| format!("the index was not written: {refusal}"));
    Ok(Ending { complaint, ..Ending::done(output, done, exit) })
}

/// How what was done is printed. Found out where standard output is: the process that works does not have it.
#[derive(Clone, Copy)]
pub(super) struct Screen {
    json: bool,
    style: Style,
}

impl Screen {
    pub(super) fn of(basics: &Basics) -> Self {
        Self { json: basics.json, style: style(basics, true) }
    }

    pub(super) fn print<T: Serialize>(
        self,
        value: &T,
        render: fn(&T, &Style) -> String,
    ) -> Result<String, Refusal> {
        if !self.json {
            return Ok(render(value, &self.style));
        }
        let failed =
            |error: serde_json::Error| Refusal::System { subject: "JSON".to_owned(), source: error.into() };
        let text = json::render(value).map_err(failed)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

pub(super) fn style(basics: &Basics, to_stdout: bool) -> Style {
    Style {
        width: terminal::width(to_stdout),
        unicode: terminal::is_unicode(),
        units: basics.units(),
        top: usize::MAX,
        directories: false,
        hidden: false,
        detail: Detail::Normal,
        now: SystemTime::now(),
    }
}

pub(super) fn ending(outcome: Outcome, command: &str, cancelled: bool) -> Ending {
    match outcome {
        Ok(ending) => ending,
        Err(Refusal::Interrupted) if cancelled => Ending::interrupted(&Refusal::Interrupted.to_string()),
        Err(refusal) => {
            let advice = if refusal.lacks_rights() && !nix::unistd::geteuid().is_root() {
                format!("; try sudo whyfull {command} ...")
            } else {
                String::new()
            };
            Ending::failed(&format!("{refusal}{advice}"))
        }
    }
}
