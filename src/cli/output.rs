//! Where the report goes: to stdout, or beside a file and then in its place, so that
//! a reader never meets half of it and a full disk costs nothing that was there.

use std::fs::{self, File, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anstream::{AutoStream, ColorChoice};
use nix::unistd::{AccessFlags, access};

use crate::error::describe;
use crate::escape;

/// A destination that can be written to, as far as can be told.
pub(super) enum Output {
    /// Standard output.
    Stdout,
    /// A device, a pipe, a link to nothing yet: nothing that could be replaced.
    Special(File),
    /// A file that is replaced, or made.
    Replaced(PathBuf),
}

/// What a new file may be, before the umask.
const NEW_FILE: u32 = 0o666;

impl Output {
    /// Opens `path`, or stdout without one. A file is only looked at: what is there stays as it is
    /// until all is written.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        let existing = fs::metadata(path).ok();
        let replaceable = existing.as_ref().map_or(!is_link, fs::Metadata::is_file);
        if !replaceable {
            return File::options().write(true).create(true).truncate(false).open(path).map(Self::Special);
        }
        // What a link leads to is replaced, not the link.
        let target = if existing.is_some() { fs::canonicalize(path)? } else { path.to_owned() };
        access(directory_of(&target), AccessFlags::W_OK | AccessFlags::X_OK)?;
        Ok(Self::Replaced(target))
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
            Self::Replaced(target) => replace(&target, bytes),
        }
    }
}

/// Writes beside `target`, then takes its place. The temporary file goes when that fails.
fn replace(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = tempfile::Builder::new()
        .prefix(".whyfull-")
        .permissions(Permissions::from_mode(NEW_FILE))
        .tempfile_in(directory_of(target))?;
    if let Ok(metadata) = fs::metadata(target) {
        temporary.as_file().set_permissions(metadata.permissions())?;
    }
    temporary.write_all(bytes)?;
    // A server may report only now that its disk is full.
    temporary.as_file().sync_all()?;
    temporary.persist(target)?;
    Ok(())
}

fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// What to say when it could not be written.
pub(super) fn failure(path: Option<&Path>, error: &io::Error) -> String {
    // tempfile wraps the system's error and names its own temporary file in it.
    let error =
        error.raw_os_error().map_or_else(|| io::Error::from(error.kind()), io::Error::from_raw_os_error);
    let what = path.map_or_else(|| "standard output".to_owned(), escape::path);
    format!("{what}: {}", describe(&error))
}
