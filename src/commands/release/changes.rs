// SPDX-License-Identifier: MIT OR Apache-2.0

//! What has changed between a plan and the answer to it. Pure.

use std::collections::BTreeSet;

use crate::model::bytes::{Bytes, Gap, Units};
use crate::model::deleted::{DeletedFile, DescriptorInfo, Hold, KernelVia, Via};
use crate::model::methods::ReleaseMethod;
use crate::sys::stat::Stat;

/// How a file and those who hold it differ from what was shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// By how much it is longer; negative where it was cut.
    length: Gap,
    /// By how much more it occupies.
    blocks: Gap,
    /// Whether anything was written to it, or changed of it.
    is_written: bool,
    /// Whether others hold it, or the same in another way.
    has_other_holders: bool,
}

impl Changes {
    pub(super) fn between(before: (&Stat, &DeletedFile), now: (&Stat, &DeletedFile)) -> Self {
        let ((stat, file), (stat_now, file_now)) = (before, now);
        Self {
            length: Bytes(stat_now.size) - Bytes(stat.size),
            blocks: Bytes(stat_now.allocated) - Bytes(stat.allocated),
            is_written: (stat_now.changed, stat_now.modified) != (stat.changed, stat.modified),
            has_other_holders: holds(file) != holds(file_now),
        }
    }

    /// Whether all is as it was shown.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is only longer, as a log that is written to.
    pub fn is_growth(&self) -> bool {
        self.length > Gap(0) && !self.has_other_holders
    }

    /// `Meanwhile it has grown by 4.0 KiB. Nothing was done yet.`
    pub fn sentence(&self, units: Units, method: ReleaseMethod) -> String {
        let amount = |gap: Gap| units.format(gap.magnitude());
        let mut changes = Vec::new();
        if self.length > Gap(0) {
            changes.push(format!("it has grown by {}", amount(self.length)));
        } else if self.length < Gap(0) {
            changes.push(format!("it was cut by {}", amount(self.length)));
        } else if self.is_written {
            changes.push("it was written to".to_owned());
        } else if self.blocks != Gap(0) {
            let direction = if self.blocks > Gap(0) { "more" } else { "less" };
            changes.push(format!("it occupies {} {direction}", amount(self.blocks)));
        }
        if self.has_other_holders {
            changes.push("its holders are others".to_owned());
        }
        let fate = match (self.is_growth(), method) {
            (false, _) => "",
            (true, ReleaseMethod::Truncate) => {
                " If it goes on growing, what comes stays: what is shown is freed, by a hole instead of truncating."
            }
            (true, _) => " If it goes on growing, what comes stays: only what is shown is freed.",
        };
        format!("Meanwhile {}. Nothing was done yet.{fate}", changes.join(", and "))
    }
}

/// All by which a hold is known but the offset, which moves as the file is written.
fn holds(file: &DeletedFile) -> (BTreeSet<Hold>, BTreeSet<(KernelVia, &str)>) {
    let without_offset = |via| match via {
        Via::Descriptor { number, info } => {
            Via::Descriptor { number, info: info.map(|info| DescriptorInfo { position: 0, ..info }) }
        }
        via => via,
    };
    let processes = file.processes().map(|holder| holder.hold);
    let processes = processes.map(|hold| Hold { via: without_offset(hold.via), ..hold });
    let kernel = file.kernel().map(|kernel| (kernel.via, kernel.name.as_str()));
    (processes.collect(), kernel.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::deleted::{Holder, KernelHolder, ProcessHolder};
    use crate::model::open_flags::OpenFlags;
    use crate::sys::stat::Moment;

    fn log(held_by: Vec<Holder>) -> (Stat, DeletedFile) {
        let changed = Moment { seconds: 7, nanoseconds: 7 };
        (
            Stat { size: 100, allocated: 4096, changed, ..Stat::default() },
            DeletedFile { held_by, ..DeletedFile::default() },
        )
    }

    fn process(via: Via) -> Holder {
        let hold = Hold { pid: 7, tid: None, via };
        Holder::Process(ProcessHolder { hold, process: Arc::default() })
    }

    fn descriptor(position: u64) -> Holder {
        let info = DescriptorInfo { flags: OpenFlags(libc::O_WRONLY), position };
        process(Via::Descriptor { number: 3, info: Some(info) })
    }

    fn between(before: &(Stat, DeletedFile), now: &(Stat, DeletedFile)) -> Changes {
        Changes::between((&before.0, &before.1), (&now.0, &now.1))
    }

    #[test]
    fn a_log_that_grows_is_told_from_all_else() {
        let before = log(vec![descriptor(100)]);
        assert!(between(&before, &before).is_none());
        let written = |size, allocated, nanoseconds, held_by| {
            let (stat, _) = before;
            let changed = Moment { seconds: 7, nanoseconds };
            let (_, file) = log(held_by);
            between(&before, &(Stat { allocated, size, changed, ..stat }, file))
        };
        let grown = written(200, 8192, 8, vec![descriptor(200)]);
        assert!(grown.is_growth() && !grown.is_none());
        let sentence = |changes: &Changes| changes.sentence(Units::Binary, ReleaseMethod::PunchHole);
        assert!(sentence(&grown).starts_with("Meanwhile it has grown by 100 B. Nothing was done yet."));
        for (changes, said) in [
            (written(50, 4096, 8, vec![descriptor(50)]), "cut by 50 B"),
            (written(100, 4096, 8, vec![descriptor(100)]), "written to"),
            (written(100, 0, 7, vec![descriptor(100)]), "occupies 4.0 KiB less"),
            (written(100, 4096, 7, vec![]), "holders are others"),
            (written(200, 4096, 8, vec![process(Via::Mapping)]), "100 B, and its holders are others"),
        ] {
            assert!(!changes.is_none() && !changes.is_growth(), "{changes:?}");
            assert!(sentence(&changes).contains(said), "{}", sentence(&changes));
        }
    }

    #[test]
    fn a_loop_device_that_comes_is_a_holder() {
        let device = Holder::Kernel(KernelHolder::new(KernelVia::Loop, "/dev/loop3".to_owned()));
        let (before, now) = (log(vec![descriptor(0)]), log(vec![descriptor(0), device]));
        assert!(between(&before, &now).has_other_holders);
    }
}
