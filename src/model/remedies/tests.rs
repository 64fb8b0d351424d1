// SPDX-License-Identifier: MIT OR Apache-2.0

use std::sync::Arc;

use super::*;
use crate::model::deleted::{
    DeletedSubvolume, DescriptorInfo, FileKind, Hold, Holder, KernelHolder, KernelVia, MountedAt,
    ProcessHolder, Via,
};
use crate::model::last_name::LastName;
use crate::model::open_flags::OpenFlags;
use crate::model::process::{Identity, Membership, Process, Program, Service};
use crate::model::usage::Tally;

const MIB: u64 = 1 << 20;
const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A program of the system's, as root runs it.
fn program(name: &str) -> Program {
    Program { name: name.to_owned(), uid: 0, user: "root".to_owned() }
}

fn runs(unit: &str, main: Option<Program>) -> Service {
    Service { unit: unit.to_owned(), main, uid: Some(0) }
}

/// The process changed.
fn with(holder: &ProcessHolder, change: impl FnOnce(&mut Process)) -> ProcessHolder {
    let mut process = Process::clone(&holder.process);
    change(&mut process);
    ProcessHolder { process: Arc::new(process), ..holder.clone() }
}

/// The process as somebody else.
fn but(holder: &ProcessHolder, change: impl FnOnce(&mut Identity)) -> ProcessHolder {
    with(holder, |process| change(&mut process.identity))
}

/// The process in a container.
fn inside(holder: &ProcessHolder, runtime: Option<Runtime>) -> ProcessHolder {
    let container = Some(ID.to_owned());
    with(holder, |process| process.membership = Membership { container, runtime, ..Membership::default() })
}

/// The process holding the file in another way.
fn by(holder: ProcessHolder, via: Via) -> ProcessHolder {
    ProcessHolder { hold: Hold { via, ..holder.hold }, ..holder }
}

fn opened(flags: i32) -> Via {
    Via::Descriptor { number: 7, info: Some(DescriptorInfo { flags: OpenFlags(flags), position: 0 }) }
}

fn log(pid: i32, command: &str, service: Option<&str>) -> ProcessHolder {
    let identity = Identity {
        executable: Some(command.to_owned()),
        program: Some(program(command)),
        uid: Some(0),
        service: service.map(|unit| runs(unit, Some(program(command)))),
    };
    let process = Process { command: Some(command.to_owned()), identity, ..Process::default() };
    let hold = Hold { pid, tid: None, via: opened(libc::O_WRONLY | libc::O_APPEND) };
    ProcessHolder { hold, process: Arc::new(process) }
}

fn file(inode: u64, bytes: u64, held_by: Vec<Holder>) -> DeletedFile {
    DeletedFile { inode, bytes: Bytes(bytes), held_by, ..DeletedFile::default() }
}

fn held(inode: u64, mib: u64, processes: Vec<ProcessHolder>) -> DeletedFile {
    file(inode, mib * MIB, processes.into_iter().map(Holder::Process).collect())
}

fn kernel(via: KernelVia, name: &str) -> Holder {
    Holder::Kernel(KernelHolder::new(via, name.to_owned()))
}

fn mount() -> Holder {
    let at = MountedAt { point: "/m".into(), mount: 7, namespace: None, task: None };
    Holder::Kernel(KernelHolder { mounted: Some(at), ..KernelHolder::new(KernelVia::Mount, String::new()) })
}

fn on(is_listed: bool) -> Filesystem<'static> {
    Filesystem { mountpoint: Path::new("/m"), is_listed }
}

/// Group, MiB and command of each.
fn advice(files: &[DeletedFile]) -> Vec<(usize, u64, String)> {
    let all = advise(files, &[], on(true)).into_iter();
    all.map(|remedy| (remedy.group, remedy.frees.0 / MIB, remedy.command.join(" "))).collect()
}

/// The commands for one file.
fn commands(file: DeletedFile) -> Vec<String> {
    advice(&[file]).into_iter().map(|(_, _, command)| command).collect()
}

#[test]
fn a_service_frees_what_it_alone_holds() {
    let (a, b) = (Some("a.service"), Some("b.service"));
    let held = |bytes, services: &[Option<&str>]| {
        let processes = services.iter().map(|service| Holder::Process(log(1, "java", *service)));
        file(bytes, bytes, processes.collect())
    };
    let mut by_kernel = held(100, &[a]);
    by_kernel.held_by.push(kernel(KernelVia::Loop, "/dev/loop0"));
    let files = [
        held(5, &[a]),
        held(7, &[b]),
        held(3, &[a, a]),
        held(99, &[a, b]),
        held(98, &[None]),
        held(0, &[a]),
        by_kernel,
    ];
    let restarts: Vec<_> = advise(&files, &[], on(false))
        .into_iter()
        .map(|remedy| (remedy.action, remedy.command[2].clone(), remedy.frees))
        .collect();
    let restart = |unit: &str, bytes| (Action::RestartUnit, unit.to_owned(), Bytes(bytes));
    assert_eq!(restarts, [restart("a.service", 8), restart("b.service", 7)]);
}

#[test]
fn the_least_harmful_stands_first() {
    let syslog = |inode, mib| held(inode, mib, vec![log(903, "rsyslogd", Some("rsyslog.service"))]);
    let buffer = by(log(903, "rsyslogd", Some("rsyslog.service")), opened(libc::O_RDWR));
    let all = advice(&[syslog(4, 20), syslog(5, 10), held(6, 5, vec![buffer]), held(9, 40, vec![])]);
    let expected = [
        (0, 0, "whyfull recover inode:9 --filesystem /m DEST"),
        (0, 40, "whyfull release inode:9 --filesystem /m"),
        (1, 30, "systemctl kill --kill-who=main --signal=HUP rsyslog.service"),
        (1, 0, "whyfull recover 903:7 --inode 4 DEST"),
        (1, 0, "whyfull recover 903:7 --inode 5 DEST"),
        (1, 0, "whyfull recover 903:7 --inode 6 DEST"),
        (1, 35, "systemctl restart rsyslog.service"),
        (1, 20, "whyfull release 903:7 --inode 4"),
        (1, 10, "whyfull release 903:7 --inode 5"),
        (1, 5, "whyfull release 903:7 --inode 6"),
    ];
    assert_eq!(all, expected.map(|(group, mib, command)| (group, mib, command.to_owned())));
}

#[test]
fn daemons_outside_of_services_are_signalled_where_all_their_processes_take_it() {
    let first = |processes| commands(held(4, 2, processes)).remove(0);
    assert_eq!(first(vec![log(5, "rsyslogd", None)]), "kill -HUP 5");
    assert_eq!(first(vec![log(9, "nginx", None), log(5, "nginx", None)]), "kill -USR1 5 9");
    let none = "whyfull recover 5:7 --inode 4 DEST";
    assert_eq!(first(vec![log(5, "apache2", None)]), none);
    assert_eq!(first(vec![log(5, "nginx", None), log(6, "tail", None)]), none);
    assert_eq!(first(vec![log(5, "java", None)]), none);
    let read_write = by(log(5, "nginx", None), opened(libc::O_RDWR | libc::O_CLOEXEC));
    assert_eq!(first(vec![read_write]), none);
    let apache = log(5, "apache2", Some("apache2.service"));
    assert_eq!(first(vec![apache]), "systemctl kill --kill-who=main --signal=USR1 apache2.service");
}

#[test]
fn containers_are_restarted_by_what_runs_them() {
    let inside = |runtime| inside(&log(5, "nginx", Some("docker.service")), runtime);
    let restart = |runtime| commands(held(4, 2, vec![inside(runtime)])).remove(1);
    assert_eq!(restart(Some(Runtime::Docker)), "docker restart 0123456789ab");
    assert_eq!(restart(Some(Runtime::Podman)), "podman restart 0123456789ab");
    assert_eq!(restart(Some(Runtime::Kubernetes)), "crictl stop 0123456789ab");
    assert_eq!(restart(None), "whyfull release 5:7 --inode 4");
    let nested = with(&inside(Some(Runtime::Docker)), |process| {
        process.membership.nested_container = Some("b".repeat(64));
    });
    let outer = advise(&[held(4, 2, vec![nested])], &[], on(true)).remove(1);
    assert_eq!(outer.command.join(" "), "docker restart 0123456789ab");
    assert!(outer.warning.unwrap().contains("a container inside"));
    let both = held(4, 2, vec![inside(Some(Runtime::Docker)), log(6, "tail", None)]);
    assert_eq!(commands(both)[1], "whyfull release 5:7 --inode 4");
}

#[test]
fn the_kernel_is_told_to_let_go() {
    let by = |holder| commands(file(4, 2 * MIB, vec![holder]));
    let unmount = "whyfull release inode:4 --filesystem /m --unmount";
    let copy = "whyfull recover inode:4 --filesystem /m DEST";
    assert_eq!(by(kernel(KernelVia::Loop, "/dev/loop3")), [copy, "losetup -d /dev/loop3"]);
    assert_eq!(by(mount()), [copy, unmount]);
    assert_eq!(by(kernel(KernelVia::Mount, "")), [copy]);
    assert_eq!(by(kernel(KernelVia::BinfmtMisc, "x")), [copy]);
    assert!(by(kernel(KernelVia::Swap, "/swapfile")).is_empty());
    let twice = |first, second| commands(file(4, 2 * MIB, vec![first, second]));
    assert_eq!(twice(kernel(KernelVia::Loop, "/dev/loop3"), kernel(KernelVia::Loop, "/dev/loop4")), [copy]);
    assert_eq!(twice(mount(), mount()), [copy, unmount]);
    assert_eq!(twice(mount(), kernel(KernelVia::Mount, "")), [copy]);
    assert_eq!(twice(mount(), Holder::Process(log(5, "java", None))), ["whyfull recover 5:7 --inode 4 DEST"]);
    // Where no list has the number, the mount has.
    let listed_nowhere = advise(&[file(4, 2 * MIB, vec![mount()])], &[], on(false));
    assert_eq!(listed_nowhere.first().map(|remedy| remedy.command.join(" ")).as_deref(), Some(unmount));
}

/// Whatever it is about, what runs is a program that root's PATH leads to, in root's own namespaces.
#[test]
fn no_command_runs_a_program_in_a_place_of_others() {
    const RUN: [&str; 7] = ["whyfull", "systemctl", "kill", "losetup", "docker", "podman", "crictl"];
    let inside = |runtime| inside(&log(5, "x", None), Some(runtime));
    let mut files =
        vec![file(1, 2 * MIB, vec![mount()]), file(2, 2 * MIB, vec![kernel(KernelVia::Loop, "/dev/loop3")])];
    files.push(held(3, 2, vec![log(5, "nginx", Some("nginx.service"))]));
    files.push(held(4, 2, vec![log(6, "nginx", None)]));
    for (inode, runtime) in [Runtime::Docker, Runtime::Podman, Runtime::Kubernetes].into_iter().enumerate() {
        files.push(held(10 + inode as u64, 2, vec![inside(runtime)]));
    }
    let all = advise(&files, &[], on(true));
    for remedy in &all {
        assert!(RUN.contains(&remedy.command[0].as_str()), "{remedy:?}");
        let elsewhere = |word: &String| ["nsenter", "chroot", "exec", "umount"].contains(&word.as_str());
        assert!(!remedy.command.iter().any(elsewhere), "{remedy:?}");
    }
    let run: std::collections::BTreeSet<_> = all.iter().map(|remedy| remedy.command[0].as_str()).collect();
    assert_eq!(run.len(), RUN.len(), "{all:?}");
}

#[test]
fn what_a_process_calls_itself_brings_no_signal() {
    let signals = |process: ProcessHolder| {
        let all = advise(&[held(4, 2, vec![process])], &[], on(true));
        all.iter().any(|remedy| remedy.action == Action::ReopenLogs)
    };
    for service in [None, Some("nginx.service")] {
        let real = log(5, "nginx", service);
        assert!(signals(real.clone()));
        assert!(!signals(but(&real, |it| it.program = None)), "not the system's program");
        assert!(!signals(but(&real, |it| it.program = Some(program("python3")))), "another program");
        let by = |uid, user: &str| {
            let program = Program { name: "nginx".to_owned(), uid, user: user.to_owned() };
            but(&real, |it| it.program = Some(program))
        };
        assert!(signals(by(33, "www-data")));
        assert!(!signals(by(1000, "alice")), "anybody may run it");
        assert!(!signals(by(1000, "root2")));
    }
    // Its own name does not count.
    assert!(signals(with(&log(5, "nginx", None), |process| process.command = Some("renamed".to_owned()))));
    // cron.service, in which root's own nginx was started.
    let main = |main| but(&log(5, "nginx", None), |it| it.service = Some(runs("cron.service", main)));
    assert!(!signals(main(Some(program("cron")))));
    assert!(!signals(main(None)));
}

#[test]
fn a_service_is_restarted_for_what_is_its_own() {
    let restart = |file: DeletedFile| {
        let all = advise(&[file], &[], on(true)).into_iter();
        all.filter(|remedy| remedy.action == Action::RestartUnit).map(|remedy| remedy.warning).next()
    };
    let by = |uid| but(&log(5, "java", Some("a.service")), |it| it.uid = uid);
    assert_eq!(restart(held(4, 2, vec![by(Some(0))])), Some(None));
    assert_eq!(restart(held(4, 2, vec![by(Some(33))])), Some(None));
    // A user's job in cron.service, a user's CGI.
    assert_eq!(restart(held(4, 2, vec![by(Some(1000))])), None);
    assert_eq!(restart(held(4, 2, vec![by(None)])), None);
    let service = Service { uid: Some(1000), ..runs("a.service", None) };
    let its_user = but(&by(Some(1000)), |it| it.service = Some(service));
    assert_eq!(restart(held(4, 2, vec![its_user])), Some(None));
    let both = restart(held(4, 2, vec![by(Some(0)), by(Some(1000))])).flatten().unwrap();
    assert!(both.contains("outlive"), "{both}");
    // Opened by its owner, or sent by him.
    let of = |uid| restart(DeletedFile { uid, ..held(4, 2, vec![by(Some(0))]) }).flatten();
    assert_eq!((of(0), of(33)), (None, None));
    assert!(of(1000).unwrap().contains("sent"));
}

#[test]
fn what_was_only_sent_to_somebody_restarts_nobody() {
    let queued = |process: ProcessHolder| by(process, Via::Socket { number: 7 });
    let actions = |processes: Vec<ProcessHolder>| {
        let all = advise(&[held(4, 2, processes)], &[], on(true)).into_iter();
        all.map(|remedy| remedy.action).collect::<Vec<_>>()
    };
    let service = log(5, "rsyslogd", Some("rsyslog.service"));
    let container = inside(&log(6, "x", None), Some(Runtime::Docker));
    let on_its_own = [Action::Recover, Action::Release];
    assert_eq!(actions(vec![queued(service.clone())]), on_its_own);
    assert_eq!(actions(vec![queued(container)]), on_its_own);
    assert_eq!(actions(vec![queued(log(7, "nginx", None))]), on_its_own);
    assert_eq!(actions(vec![service.clone(), queued(service)]), on_its_own);
}

#[test]
fn what_runs_or_is_mapped_is_not_emptied() {
    let via = |via| ProcessHolder { hold: Hold { pid: 5, tid: Some(6), via }, ..log(5, "java", None) };
    assert_eq!(commands(held(4, 2, vec![via(Via::Mapping)])), ["whyfull recover 6:map --inode 4 DEST"]);
    assert!(commands(held(4, 2, vec![via(Via::Executable), via(Via::Mapping)])).is_empty());
    assert!(
        commands(DeletedFile { kind: FileKind::Directory, ..held(4, 2, vec![via(Via::WorkingDirectory)]) })
            .is_empty()
    );
    assert!(commands(held(4, 0, vec![log(5, "java", None)])).is_empty());
    let queued = held(4, 2, vec![via(Via::Socket { number: 7 })]);
    assert_eq!(commands(queued.clone())[1], "whyfull release inode:4 --filesystem /m");
    assert!(advise(std::slice::from_ref(&queued), &[], on(false)).is_empty());
    assert!(
        commands(DeletedFile { deleted_subvolume: Some(DeletedSubvolume::default()), ..queued }).is_empty()
    );
}

#[test]
fn who_might_be_harmed_is_told_first() {
    let warned = |file: DeletedFile| {
        let all = advise(&[file], &[], on(false));
        assert!(all.iter().all(|remedy| remedy.loses_data || remedy.warning.is_none()));
        all.into_iter().find_map(|remedy| remedy.warning).unwrap_or_default()
    };
    let service = |command: &str| held(4, 2, vec![log(5, command, Some("a.service"))]);
    let named = |path: &str| DeletedFile { name: LastName::Told(path.into()), ..service("x") };
    assert!(warned(service("postgres")).contains("database"));
    assert!(warned(named("/var/places.sqlite")).contains("database"));
    assert!(warned(service("qemu-system-x86")).contains("virtual machine"));
    assert!(warned(named("/srv/a.qcow2")).contains("virtual machine"));
    let mapped = |path: &str| {
        let map = by(log(5, "java", Some("a.service")), Via::Mapping);
        DeletedFile { name: LastName::Told(path.into()), ..held(4, 2, vec![map]) }
    };
    assert!(warned(mapped("/srv/index")).contains("mapped"));
    assert_eq!(warned(mapped("/usr/lib/libc.so.6")), "");
    assert_eq!(warned(service("rsyslogd")), "");
}

#[test]
fn what_is_hidden_is_pointed_out_until_it_is_listed() {
    let hidden = |bytes, largest| {
        let tally = Tally { bytes: Bytes(bytes), inodes: 2 };
        Hidden { mountpoint: "/m".into(), tally, largest }
    };
    let all = [hidden(2 << 20, None), hidden(3 << 20, Some(Vec::new())), hidden(4096, None)];
    let [remedy] = advise(&[], &all, on(false)).try_into().unwrap();
    assert_eq!((remedy.action, remedy.frees), (Action::ListHidden, Bytes(2 << 20)));
    assert_eq!(remedy.command, ["whyfull", "--hidden", "/m"]);
}
