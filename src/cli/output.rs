//! Where the report goes: to stdout, or beside a file and then in its place, so that
//! a reader never meets half of it and a full disk costs nothing that was there.

use std::fs::{self, File, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anstream::{AutoStream, ColorChoice};
use tempfile::NamedTempFile;

use crate::error::describe;
use crate::escape;

/// An open destination.
pub(super) enum Output {
    /// Standard output.
    Stdout,
    /// A device, a pipe: nothing that could be replaced.
    Special(File),
    /// Written to the first, which then takes the name of the second.
    Replaced(NamedTempFile, PathBuf),
}

/// What a new file may be, before the umask.
const NEW_FILE: u32 = 0o666;

impl Output {
    /// Opens `path`, or stdout without one.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        // What a link leads to is replaced, not the link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let existing = fs::metadata(&target).ok();
        if existing.as_ref().is_some_and(|metadata| !metadata.is_file()) {
            return File::options().write(true).open(&target).map(Self::Special);
        }
        let directory = target.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        let temporary = tempfile::Builder::new()
            .prefix(".whyfull-")
            .permissions(Permissions::from_mode(NEW_FILE))
            .tempfile_in(directory)?;
        if let Some(metadata) = existing {
            temporary.as_file().set_permissions(metadata.permissions())?;
        }
        Ok(Self::Replaced(temporary, target))
    }

    /// Whether colours belong there.
    pub(super) fn takes_color(&self, color: ColorChoice) -> bool {
        match (color, self) {
            (ColorChoice::Auto, Self::Stdout) => {
                // anstream takes any value for a wish to force colours; by the convention, 0 is none.
                let unforced = std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value == "0");
                let chosen = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
                chosen && (!unforced || io::stdout().is_terminal())
            }
            // A file is no terminal: there are colours in it only if they are asked for.
            (ColorChoice::Auto, _) => false,
            (color, _) => color != ColorChoice::Never,
        }
    }

    /// Writes it all and closes the destination.
    pub(super) fn write(self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::Special(mut file) => file.write_all(bytes),
            Self::Replaced(mut temporary, path) => {
                temporary.write_all(bytes)?;
                temporary.persist(path)?;
                Ok(())
            }
        }
    }
}

/// What to say when it could not be written.
pub(super) fn failure(path: Option<&Path>, error: &io::Error) -> String {
    // tempfile wraps the system's error and names its own temporary file in it.
    let error =
        error.raw_os_error().map_or_else(|| io::Error::from(error.kind()), io::Error::from_raw_os_error);
    let what = path.map_or_else(|| "standard output".to_owned(), escape::path);
    format!("{what}: {}", describe(&error))
}
