// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the report goes: to stdout, to a descriptor, or into a file's place when it is whole, so that
//! a reader never meets half of it and a full disk costs nothing that was there.

mod file;
mod supervised;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use nix::errno::Errno;

use super::stream::{self, Stream};
use crate::model::errno::describe;
use crate::model::escape;
use supervised::{Opened, Writer};

/// A destination that can be written to, as far as can be told.
pub(super) enum Output {
    /// Standard output.
    Stdout(Stream),
    /// Another descriptor that the command was started with: `/dev/fd/63`.
    Descriptor(Stream, String),
    /// A file that is replaced or made, or a FIFO or device.
    File(Writer),
}

impl Output {
    /// Opens `path`, or stdout without one. A file is only looked at: what is there stays as it is
    /// until all is written. The error is a message.
    pub(super) fn open(path: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        let Some(path) = path else { return Stream::stdout().map(Self::Stdout).map_err(stream::failure) };
        match supervised::open(path, timeout)? {
            Opened::File(writer) => Ok(Self::File(writer)),
            Opened::Descriptor(number) => {
                let opened = Stream::open(number).map_err(|errno| failure(&escape::path(path), errno))?;
                Ok(Self::Descriptor(opened, escape::path(path)))
            }
        }
    }

    /// Whether colours belong there.
    pub(super) fn takes_color(&self, color: ColorChoice) -> bool {
        match (color, self) {
            (ColorChoice::Auto, Self::Stdout(_)) => stdout_takes_color(),
            // A file is no terminal: there are colours in it only if they are asked for.
            (ColorChoice::Auto, _) => false,
            (color, _) => color != ColorChoice::Never,
        }
    }

    /// Writes it all and closes the destination. The error is a message. Whoever has closed the other end of
    /// a pipe has seen enough.
    pub(super) fn write(self, bytes: &[u8]) -> Result<(), String> {
        let (name, written) = match self {
            Self::File(writer) => return writer.write(bytes),
            Self::Stdout(stdout) => ("standard output".to_owned(), stdout.write(bytes)),
            Self::Descriptor(descriptor, name) => (name, descriptor.write(bytes)),
        };
        match written {
            Ok(()) | Err(Errno::EPIPE) => Ok(()),
            Err(errno) => Err(failure(&name, errno)),
        }
    }
}

/// Whether colours belong on standard output.
pub(super) fn stdout_takes_color() -> bool {
    // anstream takes any value for a wish to force colours; by the convention, 0 is none.
    let unforced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value == "0");
    let chosen = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    chosen && (!unforced || io::stdout().is_terminal())
}

fn failure(name: &str, errno: Errno) -> String {
    format!("{name}: {}", describe(&io::Error::from(errno)))
}
