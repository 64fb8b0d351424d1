//! What would free space.

use serde::Serialize;

use crate::model::bytes::Bytes;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// Those with the same number are about the same files: what they free is not to be added up.
    pub group: usize,
    /// Of which kind.
    pub action: Action,
    /// The file, where it is about one alone.
    pub inode: Option<u64>,
    /// What it gives back.
    pub frees_bytes: Bytes,
    /// The command as argv, never a shell string.
    pub command: Vec<String>,
    /// Whether the data in the deleted files is gone then.
    pub loses_data: bool,
    /// What to know first, for people.
    pub warning: Option<&'static str>,
}

/// The things that can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Signal a daemon that then opens its logs anew.
    ReopenLogs,
    /// Copy a file out. `DEST`, the last word of the command, is to be replaced.
    Recover,
    /// Restart a service of the system's manager.
    RestartUnit,
    /// Restart a container.
    RestartContainer,
    /// Detach a loop device from its file.
    DetachLoop,
    /// Unmount what is mounted from it.
    Unmount,
    /// Free a file's blocks beneath the program that holds it. Asks, unless `--yes` is added.
    Release,
    /// List what a mount point hides, to see what of it may go.
    ListHidden,
}
