// SPDX-License-Identifier: MIT OR Apache-2.0

//! From the text of /proc/PID/cgroup to what an administrator calls it: the systemd
//! unit, the container, the pod. Pure.
//!
//! Only the beginning of a path is believed. The system's manager makes the slices and, below them, one
//! unit or scope; a container runtime makes its own directory at the root, or a scope below slices. What
//! lies below that belongs to whoever it was delegated to (a user's own manager, a container) and carries
//! whatever names that one likes: cgroups(7), "Cgroup delegation"; systemd.resource-control(5), `Delegate=`.

use crate::model::process::{Membership, Runtime};

/// Reads `hierarchy:controllers:path` lines: cgroups(7). Where several hierarchies are mounted, the
/// unified one and systemd's own name units; containers may show in any, but not different ones.
pub fn parse(text: &str) -> Membership {
    let mut found = Membership::default();
    let mut containers: Vec<Container<'_>> = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let components = components(path);
        containers.extend(container(&components));
        if matches!(controllers, "" | "name=systemd") && found.unit.is_none() {
            found.unit = unit(&components);
            found.is_system_service = components.first() == Some(&"system.slice")
                && found.unit.as_deref().is_some_and(|unit| is_a(unit, "service"));
        }
    }
    if let [first, others @ ..] = containers.as_slice()
        && others.iter().all(|other| other.id == first.id)
    {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        found.container = owned(Some(first.id));
        found.nested_container = owned(containers.iter().find_map(|container| container.nested));
        found.runtime = first.runtime;
        found.pod = containers.iter().find_map(|container| container.pod.clone());
    }
    found
}

/// The parts of a path; none of one that begins outside of what is seen from here (`/../x`: cgroup
/// namespaces), where no part tells whose it is.
fn components(path: &str) -> Vec<&str> {
    // Of a group that has been removed: kernel/cgroup/cgroup.c, `proc_cgroup_show`.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let components: Vec<&str> = path.split('/').filter(|component| !component.is_empty()).collect();
    if components.contains(&"..") { Vec::new() } else { components }
}

fn slices(components: &[&str]) -> usize {
    components.iter().take_while(|component| is_a(component, "slice")).count()
}

/// The unit that processes were put into, below nothing but slices: systemd.service(5), systemd.scope(5).
fn unit(components: &[&str]) -> Option<String> {
    let component = components.get(slices(components)).copied()?;
    // A name that could be taken for a file of the kernel's is escaped so (systemd, src/basic/cgroup-util.c,
    // `cg_escape`).
    let name = component.strip_prefix('_').unwrap_or(component);
    // systemd.unit(5). None begins like an option.
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || br":-_.\@".contains(&byte);
    let is_unit = is_a(name, "service") || is_a(name, "scope");
    (is_unit && !name.starts_with('-') && name.bytes().all(is_valid)).then(|| name.to_owned())
}

/// Whether a component names a unit of that type.
fn is_a(component: &str, unit_type: &str) -> bool {
    component.rsplit_once('.').is_some_and(|(_, suffix)| suffix == unit_type)
}

/// A container that a runtime of root's has made.
struct Container<'a> {
    id: &'a str,
    nested: Option<&'a str>,
    runtime: Option<Runtime>,
    pod: Option<String>,
}

/// The outermost container of a path: a scope below nothing but slices, or, where the runtime manages groups
/// itself, its own directory at the root.
fn container<'a>(components: &[&'a str]) -> Option<Container<'a>> {
    let slices = slices(components);
    let (above, below) = components.split_at_checked(slices)?;
    let pod_above = above.last().copied().and_then(pod);
    let (id, by, pod, depth) = match below {
        [scope, ..] if is_a(scope, "scope") => {
            let (id, runtime) = made(scope.strip_suffix(".scope")?)?;
            (id, runtime, pod_above, 1)
        }
        ["docker", id, ..] if slices == 0 => (id_alone(id)?, Some(Runtime::Docker), None, 2),
        ["libpod_parent", name, ..] if slices == 0 => {
            let (id, runtime) = made(name)?;
            (id, runtime, None, 2)
        }
        ["kubepods", "burstable" | "besteffort", pod, name, ..] if slices == 0 => {
            (id_of_pod(name)?, None, self::pod(pod), 4)
        }
        ["kubepods", pod, name, ..] if slices == 0 => (id_of_pod(name)?, None, self::pod(pod), 3),
        _ => return None,
    };
    let inside = below.get(depth..).unwrap_or_default();
    let runtime = if pod.is_some() { Some(Runtime::Kubernetes) } else { by };
    Some(Container { id, nested: inside.iter().rev().find_map(|name| any_id(name)), runtime, pod })
}

/// How runtimes call what they make for a container, and what runs that, where there is a command for it.
const MAKERS: [(&str, Option<Runtime>); 7] = [
    ("docker", Some(Runtime::Docker)),
    ("libpod", Some(Runtime::Podman)),
    ("libpod-conmon", Some(Runtime::Podman)),
    ("cri-containerd", None),
    ("crio", None),
    ("crio-conmon", None),
    ("nerdctl", None),
];

/// `docker-<id>`: the id, and what runs it.
fn made(name: &str) -> Option<(&str, Option<Runtime>)> {
    let (maker, id) = name.rsplit_once('-')?;
    let (_, runtime) = MAKERS.iter().find(|(known, _)| *known == maker)?;
    Some((id_alone(id)?, *runtime))
}

/// `<id>` or `crio-<id>`.
fn id_of_pod(name: &str) -> Option<&str> {
    id_alone(name).or_else(|| made(name).map(|(id, _)| id))
}

/// What looks like an id, whoever has written it.
fn any_id(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    id_alone(name.rsplit(['-', ':']).next()?)
}

fn id_alone(id: &str) -> Option<&str> {
    const ID_LENGTH: usize = 64;
    (id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// `pod<uid>` or, through systemd, `kubepods-burstable-pod<uid with _ for ->.slice`.
fn pod(component: &str) -> Option<String> {
    const UID_LENGTH: usize = 36;
    let name = component.strip_suffix(".slice").unwrap_or(component);
    let (before, uid) = name.rsplit_once("pod")?;
    let plausible = uid.len() >= 32 && uid.len() <= UID_LENGTH;
    let hex = uid.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'-' | b'_'));
    (plausible && hex && (before.is_empty() || before.starts_with("kubepods"))).then(|| uid.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const INNER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    const UID: &str = "12345678-1234-1234-1234-123456789abc";

    fn of(path: &str) -> Membership {
        parse(&format!("0::{path}\n"))
    }

    fn unit(path: &str) -> Option<String> {
        of(path).unit
    }

    #[test]
    fn units() {
        assert_eq!(unit("/system.slice/kafka.service").as_deref(), Some("kafka.service"));
        assert_eq!(unit("/system.slice/_cpu.service").as_deref(), Some("cpu.service"));
        assert_eq!(unit("/system.slice/kafka.service (deleted)").as_deref(), Some("kafka.service"));
        let templated = "/system.slice/system-getty.slice/getty@tty1.service";
        assert_eq!(unit(templated).as_deref(), Some("getty@tty1.service"));
        assert_eq!(unit(r"/system.slice/a\x2db.service").as_deref(), Some(r"a\x2db.service"));
        for none in ["/", "/system.slice/-x.service", "/system.slice/a b.service", "/x/a.service"] {
            assert_eq!(unit(none), None, "{none}");
        }
    }

    #[test]
    fn what_lies_below_a_delegated_group_is_its_owners_to_name() {
        let user = "/user.slice/user-1000.slice/user@1000.service";
        for below in [
            "app.slice/foo.service".to_owned(),
            "system.slice/sshd.service".to_owned(),
            format!("app.slice/docker-{ID}.scope"),
            format!("user.slice/libpod-{ID}.scope/container"),
            format!("docker/{ID}"),
            format!("kubepods.slice/kubepods-pod{}.slice/crio-{ID}.scope", UID.replace('-', "_")),
        ] {
            let expected = Membership { unit: Some("user@1000.service".to_owned()), ..Membership::default() };
            assert_eq!(of(&format!("{user}/{below}")), expected, "{below}");
        }
        for path in [
            format!("/system.slice/foo.service/docker-{ID}.scope"),
            format!("/user.slice/user-1000.slice/session-3.scope/docker/{ID}"),
            format!("/lxc.payload.a/docker/{ID}"),
            format!("/system.slice/docker/{ID}"),
            format!("/alice/{ID}"),
            format!("/system.slice/mine-{ID}.scope"),
            format!("/../docker-{ID}.scope"),
            "/../../system.slice/sshd.service".to_owned(),
            "/lxc.payload.a/system.slice/sshd.service".to_owned(),
        ] {
            let found = of(&path);
            assert_eq!((found.container, found.runtime, found.pod), (None, None, None), "{path}");
            let unit = found.unit.unwrap_or_default();
            assert!(!found.is_system_service || unit == "foo.service", "{path}");
        }
    }

    #[test]
    fn a_service_is_the_systems_own_when_nothing_but_slices_is_above_it() {
        let system = |path: &str| of(path).is_system_service;
        assert!(system("/system.slice/kafka.service"));
        assert!(system("/system.slice/system-getty.slice/getty@tty1.service/sub"));
        assert!(!system("/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service"));
        assert!(!system("/system.slice/docker-0123.scope/system.slice/inner.service"));
        assert!(!system("/user.slice/user-1000.slice/user@1000.service"));
    }

    #[test]
    fn containers_and_pods_by_every_runtime() {
        let pod = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
        let pods = format!("/kubepods.slice/kubepods-burstable.slice/{pod}");
        let (docker, podman, kubernetes) =
            (Some(Runtime::Docker), Some(Runtime::Podman), Some(Runtime::Kubernetes));
        for (path, unit, runtime) in [
            (format!("/system.slice/docker-{ID}.scope"), Some(format!("docker-{ID}.scope")), docker),
            (format!("/docker/{ID}"), None, docker),
            (format!("/docker/{ID}/inner"), None, docker),
            (
                format!("/machine.slice/libpod-{ID}.scope/container"),
                Some(format!("libpod-{ID}.scope")),
                podman,
            ),
            (
                format!("/machine.slice/libpod-conmon-{ID}.scope"),
                Some(format!("libpod-conmon-{ID}.scope")),
                podman,
            ),
            (format!("/libpod_parent/libpod-{ID}/ctr"), None, podman),
            (format!("/system.slice/nerdctl-{ID}.scope"), Some(format!("nerdctl-{ID}.scope")), None),
            (
                format!("{pods}/cri-containerd-{ID}.scope"),
                Some(format!("cri-containerd-{ID}.scope")),
                kubernetes,
            ),
            (format!("/kubepods/besteffort/pod{UID}/{ID}"), None, kubernetes),
            (format!("/kubepods/pod{UID}/crio-{ID}"), None, kubernetes),
        ] {
            let pod = runtime.filter(|runtime| *runtime == Runtime::Kubernetes).map(|_| UID.to_owned());
            let container = Some(ID.to_owned());
            assert_eq!(of(&path), Membership { unit, container, runtime, pod, ..of("/") }, "{path}");
        }
        assert_eq!(of("/kubepods/podinfo"), Membership::default());
    }

    #[test]
    fn of_nested_containers_the_outermost_counts() {
        for path in [
            format!("/docker/{ID}/docker/{INNER}"),
            format!("/system.slice/docker-{ID}.scope/kubelet.slice/a.slice/cri-containerd-{INNER}.scope"),
            format!("/system.slice/docker-{ID}.scope/system.slice/docker-{INNER}.scope/x"),
        ] {
            let found = of(&path);
            assert_eq!(found.container.as_deref(), Some(ID), "{path}");
            assert_eq!(found.nested_container.as_deref(), Some(INNER), "{path}");
            assert_eq!((found.runtime, found.pod), (Some(Runtime::Docker), None), "{path}");
        }
    }

    #[test]
    fn with_several_hierarchies_systemds_own_names_the_unit() {
        let text =
            format!("12:memory:/docker/{ID}\n4:cpu:/other.service\n1:name=systemd:/system.slice/x.service\n");
        let expected = Membership {
            unit: Some("x.service".to_owned()),
            is_system_service: true,
            container: Some(ID.to_owned()),
            runtime: Some(Runtime::Docker),
            ..Membership::default()
        };
        assert_eq!(parse(&text), expected);
        let contradicting = parse(&format!("12:memory:/docker/{ID}\n4:cpu:/docker/{INNER}\n"));
        assert_eq!(contradicting.container, None);
    }

    proptest::proptest! {
        /// Whatever a delegate appends changes neither unit nor container.
        #[test]
        fn nothing_below_the_first_unit_or_container_counts(below in "[a-z0-9./@-]{0,80}") {
            let without_dots = below.split('/').filter(|part| *part != "..").collect::<Vec<_>>().join("/");
            for above in [
                "/user.slice/user-1.slice/user@1.service".to_owned(),
                "/system.slice/a.service".to_owned(),
                format!("/system.slice/docker-{ID}.scope"),
            ] {
                let deep = of(&format!("{above}/{without_dots}"));
                proptest::prop_assert_eq!(Membership { nested_container: None, ..deep }, of(&above));
            }
        }

        #[test]
        fn any_text_ends_without_panic(text in "\\PC{0,200}") {
            parse(&text);
        }
    }
}
