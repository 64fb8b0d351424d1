// SPDX-License-Identifier: MIT OR Apache-2.0

//! A child that finds `-o FILE` before the work, waits for the report, and writes it: the file may be on a
//! filesystem that does not answer, or stops answering meanwhile, and whoever waits for one of those cannot
//! even be killed. This process waits for each step no longer than `--timeout`, and leaves the child behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::file::{ReportFile, Special, Step, Target, find_target};
use crate::commands::destination::abandoned;
use crate::commands::refusal::Refusal;
use crate::model::escape;
use crate::sys::worker::{self, Descriptors, Worker};

/// How many times longer than for anything else the disk may take to have the file: one that is busy is not
/// dead.
const DISK_PATIENCE: u32 = 6;

/// What the child tells, a line each.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// It is a file, which can be written.
    File,
    /// It is a FIFO, device or socket, which is opened next.
    Special,
    /// That is open.
    Open,
    /// It is a descriptor of the process that asks.
    Descriptor(i32),
    /// The next step is done.
    Next,
    /// The last step comes, which may take long.
    ToDisk,
    /// All is written.
    Done,
    /// Nothing was.
    Failed(String),
}

/// What FILE is.
pub(super) enum Opened {
    File(Writer),
    Descriptor(i32),
}

/// Who will write the report.
pub(in crate::cli) enum Writer {
    /// A child.
    Child(Child),
    /// This process, where no child can be had: that is better than no report.
    File(ReportFile),
    Special(Special, OwnedFd),
}

/// Finds out what `path` is, within `timeout`.
pub(super) fn open(path: &Path, timeout: Duration) -> Result<Opened, String> {
    let Ok(worker) = worker::start(Descriptors::None, |line| serve(&line, path, timeout)) else {
        return open_here(path, timeout).map_err(|refusal| refusal.to_string());
    };
    let line = worker.line.try_clone().map_err(|error| format!("{}: {error}", escape::path(path)))?;
    let (line, path) = (BufReader::new(line), path.to_owned());
    let mut child = Child { worker, line, path, timeout, is_special: false };
    match child.next(Some(timeout))? {
        Message::Descriptor(number) => Ok(Opened::Descriptor(number)),
        Message::File => Ok(Opened::File(Writer::Child(child))),
        Message::Special => {
            child.is_special = true;
            // The child, which waits as long for a reader, has the first word.
            match child.next(Some(timeout.saturating_mul(2)))? {
                Message::Open => Ok(Opened::File(Writer::Child(child))),
                _ => Err(child.died()),
            }
        }
        _ => Err(child.died()),
    }
}

fn open_here(path: &Path, timeout: Duration) -> Result<Opened, Refusal> {
    Ok(match find_target(path)? {
        Target::File(file) => Opened::File(Writer::File(file)),
        Target::Descriptor(number) => Opened::Descriptor(number),
        Target::Special(special) => {
            let opened = special.open(timeout)?;
            Opened::File(Writer::Special(special, opened))
        }
    })
}

impl Writer {
    /// Writes the report. The error is a message.
    pub(super) fn write(self, bytes: &[u8]) -> Result<(), String> {
        let written = match self {
            Self::Child(child) => return child.write(bytes),
            Self::File(file) => file.write(bytes, |_| true),
            Self::Special(special, opened) => special.write(&opened, bytes),
        };
        written.map_err(|refusal| refusal.to_string())
    }
}

/// The child, seen from this process.
pub(in crate::cli) struct Child {
    worker: Worker,
    line: BufReader<UnixStream>,
    path: PathBuf,
    timeout: Duration,
    is_special: bool,
}

impl Child {
    fn write(mut self, bytes: &[u8]) -> Result<(), String> {
        let length = (bytes.len() as u64).to_ne_bytes();
        let mut line = &self.worker.line;
        let sent = line.write_all(&length).and_then(|()| line.write_all(bytes));
        if sent.and_then(|()| line.shutdown(Shutdown::Write)).is_err() {
            return Err(self.died());
        }
        // Whoever reads a FIFO or a terminal may take any time.
        let usual = (!self.is_special).then_some(self.timeout);
        let mut limit = usual;
        loop {
            match self.next(limit)? {
                Message::Done => {
                    self.worker.wait(self.timeout);
                    return Ok(());
                }
                Message::ToDisk => limit = usual.map(|usual| usual.saturating_mul(DISK_PATIENCE)),
                _ => limit = usual,
            }
        }
    }

    /// The next message that is no failure, within `limit`.
    fn next(&mut self, limit: Option<Duration>) -> Result<Message, String> {
        let mut text = Vec::new();
        let limited = self.worker.line.set_read_timeout(limit);
        match limited.and_then(|()| self.line.read_until(b'\n', &mut text)) {
            Ok(0) => Err(self.died()),
            Ok(_) => match serde_json::from_slice(&text) {
                Ok(Message::Failed(reason)) => Err(reason),
                Ok(message) => Ok(message),
                Err(_) => Err(self.died()),
            },
            Err(_) => Err(self.give_up(limit.unwrap_or(self.timeout))),
        }
    }

    /// Leaves the child behind, and nothing of what it has written. Says so.
    fn give_up(&self, waited: Duration) -> String {
        let mut left = abandoned::of(self.worker.pid());
        left.retain(|left| !left.remove(self.timeout));
        self.worker.abandon();
        let left: Vec<String> = left.iter().map(|left| escape::path(&left.path)).collect();
        let left =
            if left.is_empty() { String::new() } else { format!("; left behind: {}", left.join(", ")) };
        let refusal = Refusal::NoAnswer { subject: escape::path(&self.path), timeout: waited };
        format!("{refusal}{left}")
    }

    fn died(&self) -> String {
        format!("{}: the process that writes the report has died", escape::path(&self.path))
    }
}

/// The child's work.
fn serve(line: &UnixStream, path: &Path, timeout: Duration) {
    let ended = match find_target(path) {
        Ok(Target::Descriptor(number)) => Ok(Message::Descriptor(number)),
        Ok(Target::File(file)) => {
            tell(line, &Message::File);
            let Some(bytes) = receive(line) else { return };
            let goes_on =
                |step| tell(line, if step == Step::ToDisk { &Message::ToDisk } else { &Message::Next });
            file.write(&bytes, goes_on).map(|()| Message::Done)
        }
        Ok(Target::Special(special)) => {
            tell(line, &Message::Special);
            special.open(timeout).and_then(|opened| {
                tell(line, &Message::Open);
                let Some(bytes) = receive(line) else { return Ok(Message::Done) };
                special.write(&opened, &bytes).map(|()| Message::Done)
            })
        }
        Err(refusal) => Err(refusal),
    };
    tell(line, &ended.unwrap_or_else(|refusal| Message::Failed(refusal.to_string())));
}

/// The whole report; nothing if this process's parent has ended before.
fn receive(mut line: &UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; size_of::<u64>()];
    line.read_exact(&mut length).ok()?;
    let mut bytes = Vec::new();
    line.read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == u64::from_ne_bytes(length)).then_some(bytes)
}

/// Returns whether somebody listens.
fn tell(mut line: &UnixStream, message: &Message) -> bool {
    serde_json::to_vec(message).is_ok_and(|mut text| {
        text.push(b'\n');
        line.write_all(&text).is_ok()
    })
}
