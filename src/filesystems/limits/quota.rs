// SPDX-License-Identifier: MIT OR Apache-2.0

//! Quotas of users, groups and projects that are used up or nearly so, by quotactl(2). Quotas that are only counted and not enforced are not asked for.

use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::unistd::{Gid, getegid, geteuid, getgroups};

use crate::model::limits::{Amount, Owner, Quota};
use crate::mounts::Mount;
use crate::sys::accounts::Accounts;
use crate::sys::quota::{self, Kind};

/// The kinds of quota, with the options by which a mount says that it enforces them (ext4(5), xfs(5),
/// tmpfs(5)).
const KINDS: [(Kind, &[&str]); 3] = [
    (Kind::User, &["usrquota", "usrjquota"]),
    (Kind::Group, &["grpquota", "grpjquota"]),
    (Kind::Project, &["prjquota"]),
];

/// Closer to a limit than this, and the next block is refused: 64 KiB, the largest block there is.
const BLOCK: u64 = 64 << 10;

/// The quotas of which less than one percent is left, or that are beyond their soft limit. Names are looked
/// up for no longer than `timeout`.
pub(super) fn short(mount: &Mount, root: BorrowedFd<'_>, timeout: Duration) -> Vec<Quota> {
    let enforced = KINDS.iter().filter(|(_, options)| options.iter().any(|option| mount.has_option(option)));
    let accounts = Accounts::until(timeout);
    enforced.flat_map(|&(kind, _)| of_kind(root, kind, &accounts)).collect()
}

/// Root sees everybody's, others their own.
fn of_kind(root: BorrowedFd<'_>, kind: Kind, accounts: &Accounts) -> Vec<Quota> {
    let mut quotas = Vec::new();
    let mut from = 0;
    loop {
        match quota::next(root, kind, from) {
            Ok(quota) => {
                quotas.extend(judged(kind, quota, accounts));
                match quota.id.checked_add(1) {
                    Some(next) => from = next,
                    None => return quotas,
                }
            }
            Err(Errno::EPERM) => return own(root, kind, accounts),
            Err(_) => return quotas,
        }
    }
}

fn own(root: BorrowedFd<'_>, kind: Kind, accounts: &Accounts) -> Vec<Quota> {
    let ids: Vec<u32> = match kind {
        Kind::User => vec![geteuid().as_raw()],
        Kind::Group => {
            let mut groups = getgroups().unwrap_or_default();
            groups.push(getegid());
            groups.sort_unstable_by_key(|group| group.as_raw());
            groups.dedup();
            groups.into_iter().map(Gid::as_raw).collect()
        }
        Kind::Project => Vec::new(),
    };
    let quotas = ids.into_iter().filter_map(|id| quota::of(root, kind, id).ok());
    quotas.flat_map(|quota| judged(kind, quota, accounts)).collect()
}

/// What of a quota is short.
fn judged(kind: Kind, quota: quota::Quota, accounts: &Accounts) -> impl Iterator<Item = Quota> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let (id, parts) = (quota.id, [(Amount::Bytes, quota.space), (Amount::Inodes, quota.inodes)]);
    parts.into_iter().filter_map(move |(amount, part)| {
        let (limit, refuses) = reached(amount, &part, now)?;
        Some(Quota { owner: owner(kind, id, accounts), amount, used: part.used, limit, refuses })
    })
}

/// The limit that is reached or exceeded, and whether more is refused.
fn reached(amount: Amount, part: &quota::Amount, now: u64) -> Option<(u64, bool)> {
    if part.hard > 0 && is_short(part.used, part.hard) {
        return Some((part.hard, is_used_up(amount, part.used, part.hard)));
    }
    let beyond = part.soft > 0 && part.used > part.soft;
    beyond.then_some((part.soft, part.grace_ends > 0 && part.grace_ends <= now))
}

pub(in crate::filesystems) fn is_short(used: u64, limit: u64) -> bool {
    limit.saturating_sub(used).saturating_mul(100) < limit
}

pub(in crate::filesystems) fn is_used_up(amount: Amount, used: u64, limit: u64) -> bool {
    let left = limit.saturating_sub(used);
    match amount {
        Amount::Bytes => left < BLOCK,
        Amount::Inodes => left == 0,
    }
}

fn owner(kind: Kind, id: u32, accounts: &Accounts) -> Owner {
    match kind {
        Kind::User => Owner::User(accounts.user(id)),
        Kind::Group => Owner::Group(accounts.group(id)),
        Kind::Project => Owner::Project(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_reached_when_the_next_block_is_refused_or_grace_has_ended() {
        let part = quota::Amount { used: 0, soft: 10 << 20, hard: 20 << 20, grace_ends: 0 };
        let at = |used, grace_ends| reached(Amount::Bytes, &quota::Amount { used, grace_ends, ..part }, 1000);
        assert_eq!(at(10 << 20, 0), None);
        assert_eq!(at(11 << 20, 2000), Some((10 << 20, false)), "in grace");
        assert_eq!(at(11 << 20, 1000), Some((10 << 20, true)));
        assert_eq!(at((20 << 20) - 100_000, 2000), Some((20 << 20, false)));
        assert_eq!(at(20 << 20, 2000), Some((20 << 20, true)));
        let none = quota::Amount { used: u64::MAX, ..quota::Amount::default() };
        assert_eq!(reached(Amount::Inodes, &none, 1000), None);
    }
}
