// SPDX-License-Identifier: MIT OR Apache-2.0

//! The names of users and groups. Their database may be a directory server that does not answer.

use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};

use crate::sys::deadline::Deadline;
use crate::sys::detached::within;

/// Looks names up until a deadline; whoever is asked for later has a number only.
pub(crate) struct Accounts(Deadline);

impl Accounts {
    /// All look-ups together take no longer than `timeout`.
    pub(crate) fn until(timeout: Duration) -> Self {
        Self(Deadline::after(timeout))
    }

    /// The user's name, or the number where there is none.
    pub(crate) fn user(&self, uid: u32) -> String {
        let name = move || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        self.ask(name).unwrap_or_else(|| uid.to_string())
    }

    /// The group's name, or the number where there is none.
    pub(crate) fn group(&self, gid: u32) -> String {
        let name = move || Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name);
        self.ask(name).unwrap_or_else(|| gid.to_string())
    }

    fn ask(&self, look_up: impl FnOnce() -> Option<String> + Send + 'static) -> Option<String> {
        if self.0.has_passed() { None } else { within(self.0.left(), look_up).flatten() }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Instant;

    use super::*;

    #[test]
    fn names_and_numbers_without_one() {
        let accounts = Accounts::until(Duration::MAX);
        assert_eq!((accounts.user(0), accounts.group(0)), ("root".to_owned(), "root".to_owned()));
        assert_eq!(accounts.user(u32::MAX - 7), (u32::MAX - 7).to_string());
    }

    #[test]
    fn all_look_ups_together_take_no_longer_than_the_timeout() {
        let (accounts, clock) = (Accounts::until(Duration::from_millis(20)), Instant::now());
        let hang = || {
            sleep(Duration::from_mins(10));
            None
        };
        assert!((0..1000).all(|_| accounts.ask(hang).is_none()));
        assert!(clock.elapsed() < Duration::from_secs(10));
        assert_eq!(accounts.user(0), "0");
    }
}
