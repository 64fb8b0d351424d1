//! The two commands that write, from arguments to exit status.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::args::{Basics, Recover, Release, ToRecover};
use super::{Exit, aside, fail, stream, terminal};
use crate::commands::recover;
use crate::commands::refusal::Refusal;
use crate::commands::release::{self, Plan};
use crate::model::escape;
use crate::model::monitor::Monitor;
use crate::report::text::{self, Detail, Style};
use crate::report::{Index, Recovered, json};

/// How a command ends, or why nothing was done.
type Outcome = Result<Ending, Refusal>;

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
    fn done(output: String, done: String, exit: Exit) -> Self {
        Self { output, done: Some(done), complaint: None, exit }
    }

    /// It looked, as it was asked to.
    fn looked(output: String) -> Self {
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
    let work = |monitor: &Monitor| {
        let outcome = match args.request() {
            Some(ToRecover::One(request)) => recover_one(&request, args, monitor),
            Some(ToRecover::All(request)) => recover_all(&request, args, monitor),
            // clap asks for both or for --all.
            None => return Ending::failed("neither WHAT and DEST nor --all"),
        };
        ending(outcome, "recover", monitor.is_cancelled())
    };
    aside::run(work, !args.basics.no_progress, args.basics.timeout)
}

fn recover_one(request: &recover::Request, args: &Recover, monitor: &Monitor) -> Outcome {
    let recovered: Recovered = recover::recover(request, monitor)?;
    let exit = if monitor.is_cancelled() { Exit::Interrupted } else { Exit::Complete };
    let done = format!("but the file was recovered as {}", escape::path(&recovered.copied.destination));
    Ok(Ending::done(print(&recovered, &args.basics, text::render_recovered)?, done, exit))
}

fn recover_all(request: &recover::AllRequest, args: &Recover, monitor: &Monitor) -> Outcome {
    let (index, unwritten): (Index, _) = recover::recover_all(request, monitor)?;
    let exit = match (&unwritten, index.interrupted, index.complete) {
        (_, true, _) => Exit::Interrupted,
        (Some(_), ..) => Exit::Failure,
        (None, _, true) => Exit::Complete,
        (None, ..) => Exit::Incomplete,
    };
    let (copied, of) = (index.files.iter().filter(|file| file.copied.is_some()).count(), index.files.len());
    let done = format!("but {copied} of {of} files were recovered into {}", escape::path(&request.directory));
    let output = print(&index, &args.basics, text::render_index)?;
    let complaint = unwritten.map(|refusal| format!("the index was not written: {refusal}"));
    Ok(Ending { complaint, ..Ending::done(output, done, exit) })
}

pub(super) fn release(args: &Release) -> Exit {
    // Here Ctrl-C ends the command at once: before the answer nothing was done, and what is done then
    // is a single step.
    ending(release_one(args), "release", false).print()
}

fn release_one(args: &Release) -> Outcome {
    if args.unmount {
        return unmount(args);
    }
    let plan = Plan::make(&args.request())?;
    let shown = plan.shown();
    if args.dry_run {
        return Ok(Ending::looked(print(&shown, &args.basics, text::render_plan)?));
    }
    if !args.yes {
        ask(&text::render_plan(&shown, &style(&args.basics, false)))?;
    }
    let released = plan.carry_out()?;
    let freed = args.basics.units().format(released.freed_bytes.unwrap_or_default());
    let done = format!("but {} was released, which freed {freed}", released.what);
    Ok(Ending::done(print(&released, &args.basics, text::render_released)?, done, Exit::Complete))
}

fn unmount(args: &Release) -> Outcome {
    let plan = release::unmount::Plan::make(&args.mounted())?;
    let shown = plan.shown();
    if args.dry_run {
        return Ok(Ending::looked(print(&shown, &args.basics, text::render_plan)?));
    }
    if !args.yes {
        ask(&text::render_plan(&shown, &style(&args.basics, false)))?;
    }
    let released = plan.carry_out()?;
    let exit = if released.done { Exit::Complete } else { Exit::Incomplete };
    let done = if released.done { "but it was unmounted" } else { "but it was unmounted in part" };
    Ok(Ending::done(print(&released, &args.basics, text::render_released)?, done.to_owned(), exit))
}

/// Shows the plan on stderr, so that stdout holds the result alone, and takes one line for an answer.
fn ask(plan: &str) -> Result<(), Refusal> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Refusal::NobodyToAsk);
    }
    let failed = |source| Refusal::System { subject: "the terminal".to_owned(), source };
    let mut stderr = anstream::stderr().lock();
    write!(stderr, "{plan}\nRelease it? [y/N] ").and_then(|()| stderr.flush()).map_err(failed)?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).map_err(failed)?;
    match answer.trim() {
        "y" | "yes" => Ok(()),
        _ => Err(Refusal::Declined),
    }
}

fn style(basics: &Basics, to_stdout: bool) -> Style {
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

fn print<T: Serialize>(
    value: &T,
    basics: &Basics,
    render: fn(&T, &Style) -> String,
) -> Result<String, Refusal> {
    if basics.json {
        let failed =
            |error: serde_json::Error| Refusal::System { subject: "JSON".to_owned(), source: error.into() };
        let text = json::render(value).map_err(failed)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    } else {
        Ok(render(value, &style(basics, true)))
    }
}

fn ending(outcome: Outcome, command: &str, cancelled: bool) -> Ending {
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
