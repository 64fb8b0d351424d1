// SPDX-License-Identifier: MIT OR Apache-2.0

//! Why a filesystem may refuse to store anything though bytes are left, and what helps: one sentence
//! each. Pure.

mod messages;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::model::bytes::Bytes;
use crate::model::capacity::{Capacity, Figures};
use crate::model::limits::{Chunks, Image, Limits, Quota};
use crate::model::traits::{ReservedFor, Traits};
use messages::Names;

/// What there is to judge of one filesystem.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Where it is mounted.
    pub mountpoint: &'a Path,
    /// What is mounted.
    pub source: &'a Path,
    /// What sets its type apart.
    pub traits: Traits,
    /// How large it is, and what of it is taken.
    pub capacity: &'a Capacity,
    /// What else limits it.
    pub limits: &'a Limits,
    /// The directory whose list of names is the longest, with that list's size.
    pub longest_directory: Option<&'a (PathBuf, Bytes)>,
}

/// A reason why a filesystem may refuse to store anything though bytes are left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub code: FindingCode,
    /// How bad.
    pub severity: Severity,
    /// One sentence for people.
    pub message: String,
}

/// The reasons that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingCode {
    /// Hardly an inode is free.
    InodesExhausted,
    /// What is free is reserved: for root, or for whom the filesystem says.
    OnlyReserveLeft,
    /// The kernel lets nothing be written since it met an error.
    ReadOnlyAfterErrors,
    /// The filesystem has noted errors in itself.
    ErrorsNoted,
    /// What the filesystem says of its size and of what is free cannot both be true.
    CountersWrong,
    /// A directory is as large as the mount's options allow.
    DirectoryAtLimit,
    /// The index of a directory may have no room for another name.
    DirectoryIndexFull,
    /// A quota is used up, or is about to be.
    QuotaReached,
    /// The device is larger than the filesystem on it.
    NeverGrown,
    /// The sparse file behind it may not find the space that it still needs.
    ImageWithoutSpace,
    /// btrfs has no space left for metadata, though its data has.
    MetadataFull,
    /// btrfs has snapshots, and is short of space.
    SnapshotsKept,
    /// A filesystem in memory has reached the size it may have.
    MemoryLimitReached,
    /// A filesystem in memory takes up a large part of the memory.
    MemoryTaken,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It will fail soon.
    Warning,
    /// It fails now.
    Critical,
}

/// Less than this is as good as nothing.
const NOTHING: Bytes = Bytes(1 << 20);
/// A device that is larger than its filesystem by less was only rounded down to whole groups of blocks.
const ROUNDED: Bytes = Bytes(16 << 20);
/// A filesystem in memory may take one in so many bytes of it unmentioned.
const MEMORY_PART: u64 = 4;
/// From this share of its greatest size on, in percent, an index may be full: names are spread over it by
/// their hash, so that one part of it is full long before all of it is.
const INDEX_PERCENT: u64 = 60;
/// No chunk of data is larger on one device, nor larger than a tenth of all devices
/// (fs/btrfs/volumes.c, `init_alloc_chunk_ctl_policy_regular`).
const CHUNK: Bytes = Bytes(1 << 30);
const CHUNKS_AT_LEAST: u64 = 10;
/// With less than one in so many bytes available, somebody is about to delete files.
const LOW_PART: u64 = 20;

/// All that is found, the worst first.
pub fn find(evidence: &Evidence<'_>) -> Vec<Finding> {
    let names = Names::of(evidence);
    let one = [
        refusal(evidence, &names),
        counters(evidence, &names),
        metadata(evidence, &names),
        snapshots(evidence, &names),
        inodes(evidence, &names),
        reserve(evidence, &names),
        memory_limit(evidence, &names),
        image(evidence),
        directory(evidence, &names),
        directory_index(evidence, &names),
        memory(evidence),
    ];
    let mut findings: Vec<Finding> = one.into_iter().flatten().collect();
    findings.extend(quotas(evidence, &names));
    findings.extend(never_grown(evidence, &names));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn finding(code: FindingCode, severity: Severity, message: String) -> Finding {
    Finding { code, severity, message }
}

/// Less than one percent.
fn is_scarce(left: u64, all: u64) -> bool {
    u128::from(left).saturating_mul(100) < u128::from(all)
}

/// How many hundredths of `all` a part is, rounded down; nothing of nothing.
fn percent(part: Bytes, all: Bytes) -> Option<u64> {
    let percent = u128::from(part.0).saturating_mul(100).checked_div(u128::from(all.0))?;
    Some(u64::try_from(percent).unwrap_or(u64::MAX))
}

/// How bad it is that only so much is left; nothing where it is enough.
fn shortage(left: Bytes, all: Bytes) -> Option<Severity> {
    let severity = if left < NOTHING { Severity::Critical } else { Severity::Warning };
    is_scarce(left.0, all.0).then_some(severity)
}

fn refusal(evidence: &Evidence<'_>, names: &Names<'_>) -> Option<Finding> {
    let errors = evidence.limits.errors.filter(|errors| *errors > 0);
    match (evidence.limits.refuses, errors) {
        (Some(refusal), _) => Some(finding(
            FindingCode::ReadOnlyAfterErrors,
            Severity::Critical,
            names.refusal(refusal, errors),
        )),
        (None, Some(errors)) => {
            Some(finding(FindingCode::ErrorsNoted, Severity::Warning, names.errors(errors)))
        }
        (None, None) => None,
    }
}

/// What `df` makes of that is a negative number, or an absurd one.
fn counters(evidence: &Evidence<'_>, names: &Names<'_>) -> Option<Finding> {
    let Figures { size, free, available, .. } = evidence.capacity.figures;
    let is_wrong = free > size || evidence.capacity.device.is_some_and(|device| size > device);
    if evidence.traits.unchecked_counters && is_wrong {
        let message = names.counters(size, free);
        return Some(finding(FindingCode::CountersWrong, Severity::Critical, message));
    }
    // Elsewhere no tool can put that right: a server may say anything.
    let is_absurd =
        size > Bytes::ZERO && free.max(available) > size || size.max(free).max(available) >= Bytes::MOST;
    let message = || messages::absurd(size, free.max(available));
    is_absurd.then(|| finding(FindingCode::CountersWrong, Severity::Warning, message()))
}

/// Nothing is left to allocate, and what is allocated for metadata is full while data has a chunk's worth
/// and more to spare. Where data has not, it is full in the ordinary way.
fn metadata(evidence: &Evidence<'_>, names: &Names<'_>) -> Option<Finding> {
    let chunks: &Chunks = evidence.limits.chunks.as_ref()?;
    let left = chunks.metadata_left;
    let is_short = left < chunks.operation + chunks.operation || is_scarce(left.0, chunks.metadata.0);
    let spare = chunks.data.saturating_sub(chunks.data_used);
    if !is_short || spare < CHUNK.min(Bytes(evidence.capacity.figures.size.0 / CHUNKS_AT_LEAST)) {
        return None;
    }
    let severity = if left < chunks.operation { Severity::Critical } else { Severity::Warning };
    Some(finding(FindingCode::MetadataFull, severity, names.metadata(chunks, severity)))
}

/// What deleting a file does not give back as long as they are there.
fn snapshots(evidence: &Evidence<'_>, names: &Names<'_>) -> Option<Finding> {
    let count = evidence.limits.snapshots.filter(|count| *count > 0)?;
    let Figures { size, available, .. } = evidence.capacity.figures;
    let is_low = available.0 < size.0 / LOW_PART || metadata(evidence, names).is_some();
    is_low.then(|| finding(FindingCode::SnapshotsKept, Severity::Warning, names.snapshots(count)))
}

/// Filesystems that make inodes as needed report none at all, or, like XFS, fewer the less space is
/// free: then it is the space that is scarce.
fn inodes(evidence: &Evidence<'_>, names: &Names<'_>) -> Option<Finding> {
    let Figures { inodes, inodes_free, size, available, .. } = evidence.capacity.figures;
    if !is_scarce(inodes_free, inodes) || is_scarce(available.0, size.0) {
        return None;
    }
    let severity = if inodes_free == 0 { Severity::Critical } else { Severity::Warning };
    Some(finding(FindingCode::InodesExhausted, severity, names.inodes(inodes_free, inodes)))
}

/// Where the filesystem alone may use what is free but not available, it is nobody's.
fn reserve(evidence: &Evidence<'_>, names: &Names<'_>) -> Option<Finding> {
    let Figures { size, available, reserved, .. } = evidence.capacity.figures;
    let severity = shortage(available, size)?;
    let only_that = evidence.traits.reserved_for == ReservedFor::Root
        && severity == Severity::Critical
        && reserved > available;
    let percent = percent(reserved, size).unwrap_or(0);
    let message = || names.reserve(evidence.capacity, percent > 2);
    only_that.then(|| finding(FindingCode::OnlyReserveLeft, severity, message()))
}

fn memory_limit(evidence: &Evidence<'_>, names: &Names<'_>) -> Option<Finding> {
    let Figures { size, available, .. } = evidence.capacity.figures;
    evidence.limits.memory?;
    let severity = shortage(available, size)?;
    Some(finding(FindingCode::MemoryLimitReached, severity, names.memory_limit(available, size)))
}

fn memory(evidence: &Evidence<'_>) -> Option<Finding> {
    let (memory, used) = (evidence.limits.memory?, evidence.capacity.figures.used);
    (used.0 > memory.0 / MEMORY_PART)
        .then(|| finding(FindingCode::MemoryTaken, Severity::Warning, messages::memory(used, memory)))
}

/// Of what is free only what the image has no blocks for yet is needed from its host.
fn image(evidence: &Evidence<'_>) -> Option<Finding> {
    let image: &Image = evidence.limits.image.as_ref()?;
    let needed = evidence.capacity.figures.free.min(image.holes);
    if image.available >= needed {
        return None;
    }
    let severity = shortage(image.available, needed).unwrap_or(Severity::Warning);
    Some(finding(FindingCode::ImageWithoutSpace, severity, messages::image(image, needed)))
}

/// `ext4_append` (fs/ext4/namei.c) refuses another block to a directory of that size.
fn directory(evidence: &Evidence<'_>, names: &Names<'_>) -> Option<Finding> {
    let (limit, (path, size)) = (evidence.limits.directory?, evidence.longest_directory?);
    let message = || names.directory(path, *size, limit);
    (*size >= limit).then(|| finding(FindingCode::DirectoryAtLimit, Severity::Critical, message()))
}

fn directory_index(evidence: &Evidence<'_>, names: &Names<'_>) -> Option<Finding> {
    let (limit, (path, size)) = (evidence.limits.directory_index?, evidence.longest_directory?);
    let percent = percent(*size, limit)?;
    let message = || names.directory_index(path, *size, percent.min(100));
    (percent >= INDEX_PERCENT).then(|| finding(FindingCode::DirectoryIndexFull, Severity::Warning, message()))
}

/// The worst one, and how many more there are.
fn quotas(evidence: &Evidence<'_>, names: &Names<'_>) -> Option<Finding> {
    let quotas = &evidence.limits.quotas;
    let worst: &Quota = quotas.iter().max_by_key(|quota| (quota.refuses, quota.used))?;
    let severity = if worst.refuses { Severity::Critical } else { Severity::Warning };
    Some(finding(FindingCode::QuotaReached, severity, names.quota(worst, quotas.len() - 1)))
}

fn never_grown(evidence: &Evidence<'_>, names: &Names<'_>) -> Vec<Finding> {
    let devices = evidence.limits.devices.iter();
    let smaller = devices.filter(|device| {
        let rest = device.size.saturating_sub(device.used);
        rest > ROUNDED && !is_scarce(rest.0, device.size.0)
    });
    smaller
        .map(|device| finding(FindingCode::NeverGrown, Severity::Warning, names.never_grown(device)))
        .collect()
}
