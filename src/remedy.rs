//! What would free space: from the holders, and from what is hidden, to the command. Pure.

use std::collections::BTreeMap;

use crate::bytes::Bytes;
use crate::report::{Action, HeldBy, Hidden, Holder, Remedy};

/// What a mount point hides is pointed out from here on.
const WORTH_A_LOOK: Bytes = Bytes(1 << 20);

/// Restarting each service that alone holds something, and looking at what mount points hide, unless
/// that is listed already; what frees most first. What several units hold is freed by none of them alone.
pub fn advise(holders: &[Holder], hidden: &[Hidden]) -> Vec<Remedy> {
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
        .chain(hidden.iter().filter_map(look_beneath))
        .collect();
    remedies.sort_by_key(|remedy| std::cmp::Reverse(remedy.frees_bytes));
    remedies
}

/// Only whoever knows the files can say which of them may go.
fn look_beneath(hidden: &Hidden) -> Option<Remedy> {
    let mountpoint = hidden.mountpoint.to_str()?;
    (hidden.bytes > WORTH_A_LOOK && hidden.largest.is_none()).then(|| Remedy {
        action: Action::ListHidden,
        frees_bytes: hidden.bytes,
        command: ["whyfull", "--hidden", mountpoint].map(str::to_owned).into(),
        loses_data: false,
    })
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
            advise(&holders, &[]).into_iter().map(|r| (r.command[2].clone(), r.frees_bytes)).collect();
        assert_eq!(advice, [("a.service".to_owned(), Bytes(8)), ("b.service".to_owned(), Bytes(7))]);
    }

    #[test]
    fn what_is_hidden_is_pointed_out_until_it_is_listed() {
        let hidden =
            |bytes, largest| Hidden { mountpoint: "/m".into(), bytes: Bytes(bytes), inodes: 2, largest };
        let all = [hidden(2 << 20, None), hidden(3 << 20, Some(Vec::new())), hidden(4096, None)];
        let [remedy] = advise(&[], &all).try_into().unwrap();
        assert_eq!((remedy.action, remedy.frees_bytes), (Action::ListHidden, Bytes(2 << 20)));
        assert_eq!(remedy.command, ["whyfull", "--hidden", "/m"]);
    }
}
