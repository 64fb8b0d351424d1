//! What would free space: from the holders to the command. Pure.

use std::collections::BTreeMap;

use crate::bytes::Bytes;
use crate::report::{Action, HeldBy, Holder, Remedy};

/// Restarting each service that alone holds something, the one that frees most first. What several
/// units hold is freed by none of them alone.
pub fn advise(holders: &[Holder]) -> Vec<Remedy> {
    let mut by_unit: BTreeMap<&str, Bytes> = BTreeMap::new();
    for holder in holders.iter().filter(|holder| holder.bytes > Bytes::ZERO) {
        if let Some(unit) = only_service(holder) {
            *by_unit.entry(unit).or_default() += holder.bytes;
        }
    }
    let mut remedies: Vec<Remedy> = by_unit
        .into_iter()
        .map(|(unit, frees_bytes)| Remedy {
            action: Action::RestartUnit,
            frees_bytes,
            command: ["systemctl", "restart", unit].map(str::to_owned).into(),
            loses_data: true,
        })
        .collect();
    remedies.sort_by_key(|remedy| std::cmp::Reverse(remedy.frees_bytes));
    remedies
}

/// The service that all holders of an inode belong to. Not those inside a container, where the
/// system's manager does not reach.
fn only_service(holder: &Holder) -> Option<&str> {
    let mut units = holder.held_by.iter().map(|held_by| match held_by {
        HeldBy::Process(process) => {
            let unit = process.system_service.as_deref();
            unit.filter(|_| process.container.is_none())
        }
        // What the kernel holds stays when the service has ended.
        HeldBy::Kernel(_) => None,
    });
    let first = units.next()??;
    units.all(|unit| unit == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Kernel, Process};

    fn held(bytes: u64, services: &[Option<&str>]) -> Holder {
        let process = |service: Option<&str>| {
            HeldBy::Process(Process { system_service: service.map(str::to_owned), ..Process::default() })
        };
        let held_by = services.iter().copied().map(process).collect();
        Holder { bytes: Bytes(bytes), held_by, ..Holder::default() }
    }

    #[test]
    fn a_service_frees_what_it_alone_holds() {
        let (a, b) = (Some("a.service"), Some("b.service"));
        let holders = [
            held(5, &[a]),
            held(7, &[b]),
            held(3, &[a, a]),
            held(100, &[a, b]),
            held(100, &[None]),
            held(0, &[a]),
        ];
        let mut by_kernel = held(100, &[a]);
        by_kernel.held_by.push(HeldBy::Kernel(Kernel { via: "loop", name: "/dev/loop0".to_owned() }));
        let holders = [holders.as_slice(), &[by_kernel]].concat();
        let advice: Vec<_> =
            advise(&holders).into_iter().map(|r| (r.command[2].clone(), r.frees_bytes)).collect();
        assert_eq!(advice, [("a.service".to_owned(), Bytes(8)), ("b.service".to_owned(), Bytes(7))]);
    }
}
