// SPDX-License-Identifier: MIT OR Apache-2.0

//! The command `release`: shows what will be done, asks, and asks again where that is no longer what was shown.

use std::io::{self, BufRead, IsTerminal, Write};

use super::Exit;
use super::actions::{Ending, Outcome, Screen, ending, style};
use super::args::Release;
use super::aside::{self, Ask, Patience};
use crate::commands::refusal::Refusal;
use crate::commands::release::{self, Plan};
use crate::model::monitor::Monitor;
use crate::report::text::{self, Style};

pub(super) fn release(args: &Release) -> Exit {
    let (screen, plain) = (Screen::of(&args.basics), style(&args.basics, false));
    let work = |monitor: &Monitor, ask: Ask<'_>| {
        let asking = Asking { ask, style: plain };
        let outcome = if args.unmount {
            unmount(args, screen, &asking)
        } else {
            release_one(args, screen, &asking, monitor)
        };
        ending(outcome, "release", false)
    };
    aside::run(work, &ask, Patience::Limited, args.basics.timeout)
}

fn release_one(args: &Release, screen: Screen, asking: &Asking<'_>, monitor: &Monitor) -> Outcome {
    let mut plan = Plan::make(&args.request(), monitor)?;
    if args.dry_run {
        return Ok(Ending::looked(screen.print(&plan.shown(), text::render_plan)?));
    }
    if !args.yes {
        asking.until_nothing_is_new(&mut plan, monitor)?;
    }
    let released = plan.carry_out(monitor)?;
    let freed = args.basics.units().format(released.freed_bytes.unwrap_or_default());
    let done = format!("but {} was released, which freed {freed}", released.what);
    Ok(Ending::done(screen.print(&released, text::render_released)?, done, Exit::Complete))
}

fn unmount(args: &Release, screen: Screen, asking: &Asking<'_>) -> Outcome {
    let plan = release::unmount::Plan::make(&args.mounted())?;
    let shown = plan.shown();
    if args.dry_run {
        return Ok(Ending::looked(screen.print(&shown, text::render_plan)?));
    }
    if !args.yes {
        (asking.ask)(&text::render_plan(&shown, &asking.style))?;
    }
    let released = plan.carry_out()?;
    let exit = if released.done { Exit::Complete } else { Exit::Incomplete };
    let done = if released.done { "but it was unmounted" } else { "but it was unmounted in part" };
    Ok(Ending::done(screen.print(&released, text::render_released)?, done.to_owned(), exit))
}

/// How somebody is asked.
struct Asking<'a> {
    ask: Ask<'a>,
    style: Style,
}

impl Asking<'_> {
    /// Asks until the answer was given to what is so: what has changed meanwhile is shown, and asked about. Of a
    /// file that grows all the time that would have no end: who has been told once that it grows is not asked
    /// again for that alone. What has come since stays, for what is freed is what was shown.
    fn until_nothing_is_new(&self, plan: &mut Plan, monitor: &Monitor) -> Result<(), Refusal> {
        let mut question = text::render_plan(&plan.shown(), &self.style);
        let mut knows_that_it_grows = false;
        loop {
            (self.ask)(&question)?;
            let news = plan.look_again(monitor)?;
            let changes = news.changes();
            if changes.is_none() || knows_that_it_grows && changes.is_growth() {
                return Ok(());
            }
            knows_that_it_grows |= changes.is_growth();
            let sentence = changes.sentence(self.style.units, plan.shown().method);
            plan.adopt(news);
            question = format!("\n{sentence}\n\n{}", text::render_plan(&plan.shown(), &self.style));
        }
    }
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
