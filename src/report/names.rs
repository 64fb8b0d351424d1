// SPDX-License-Identifier: MIT OR Apache-2.0

//! How the model's closed sets stand in JSON. A variant that has no name here does not compile.

use serde::{Serialize, Serializer};

use crate::model::{deleted, findings, ledger, methods, remedies, skips};

#[derive(Serialize)]
#[serde(remote = "ledger::Cause", rename_all = "snake_case")]
pub(super) enum Cause {
    Visible,
    HiddenByMount,
    OutsideMount,
    UnlinkedOpen,
    UnlinkedKernel,
    UnlinkedUnattributed,
    Shared,
    Unreachable,
    Metadata,
    Reservation,
    Unexplained,
}

#[derive(Serialize)]
#[serde(remote = "ledger::Basis", rename_all = "snake_case")]
pub(super) enum Basis {
    Measured,
    Derived,
    Remainder,
}

#[derive(Serialize)]
#[serde(remote = "deleted::FileKind", rename_all = "snake_case")]
pub(super) enum FileKind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharacterDevice,
    BlockDevice,
}

#[derive(Serialize)]
#[serde(remote = "deleted::Reason", rename_all = "snake_case")]
pub(super) enum Reason {
    ProcessesNotInspected,
    ProcessesNotListed,
    MappedFiles,
    SocketsWithQueuedDescriptors,
    IoUringRegisteredFiles,
    FilesOpenThroughOverlays,
}

#[derive(Serialize)]
#[serde(remote = "findings::FindingCode", rename_all = "snake_case")]
pub(super) enum FindingCode {
    InodesExhausted,
    OnlyReserveLeft,
    ReadOnlyAfterErrors,
    ErrorsNoted,
    CountersWrong,
    DirectoryAtLimit,
    DirectoryIndexFull,
    QuotaReached,
    NeverGrown,
    ImageWithoutSpace,
    MetadataFull,
    SnapshotsKept,
    MemoryLimitReached,
    MemoryTaken,
}

#[derive(Serialize)]
#[serde(remote = "findings::Severity", rename_all = "snake_case")]
pub(super) enum Severity {
    Warning,
    Critical,
}

#[derive(Serialize)]
#[serde(remote = "remedies::Action", rename_all = "snake_case")]
pub(super) enum Action {
    ReopenLogs,
    Recover,
    RestartUnit,
    RestartContainer,
    DetachLoop,
    Unmount,
    Release,
    ListHidden,
}

#[derive(Serialize)]
#[serde(remote = "methods::CopyMethod", rename_all = "snake_case")]
pub(super) enum CopyMethod {
    Reflink,
    Copy,
}

#[derive(Serialize)]
#[serde(remote = "methods::ReleaseMethod", rename_all = "snake_case")]
pub(super) enum ReleaseMethod {
    PunchHole,
    Truncate,
    Unmount,
}

/// The name of a kind of skip.
pub fn skip_kind(kind: skips::Kind) -> &'static str {
    match kind {
        skips::Kind::Directory => "directory",
        skips::Kind::File => "file",
        skips::Kind::Process => "process",
        skips::Kind::Unlisted => "unlisted_processes",
        skips::Kind::Mapping => "mapping",
        skips::Kind::LoopDevice => "loop_device",
        skips::Kind::Socket => "socket_queue",
        skips::Kind::Ring => "io_uring",
        skips::Kind::Overlay => "overlay_file",
        skips::Kind::DeletedSubvolume => "deleted_subvolume",
        skips::Kind::Mount => "mount",
        skips::Kind::Subvolume => "subvolume",
        skips::Kind::Outside => "outside",
        skips::Kind::InodeTables => "inode_tables",
        skips::Kind::Inode => "inode",
        skips::Kind::UnlinkedList => "unlinked_list",
        skips::Kind::LeftOut => "left_out",
        skips::Kind::Filesystem => "filesystem",
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
pub(super) fn of_skip<S: Serializer>(kind: &skips::Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(skip_kind(*kind))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
pub(super) fn of_kernel<S: Serializer>(via: &deleted::KernelVia, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(via.word())
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde passes it by reference")]
pub(super) fn of_optional_kernel<S: Serializer>(
    via: &Option<deleted::KernelVia>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    via.map(deleted::KernelVia::word).serialize(serializer)
}
