//! From the text of /proc/PID/cgroup to what an administrator calls it: the systemd
//! unit, the container, the pod. Pure.

/// What a control group's path says of those in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The innermost systemd unit: `kafka.service`, `session-3.scope`.
    pub unit: Option<String>,
    /// Whether that unit is a service of the system's manager, not of a user's or a container's.
    pub is_system_service: bool,
    /// The container's id as its runtime prints it: 64 hex digits.
    pub container: Option<String>,
    /// Whose container that is, where its name tells and root's own runtime has it.
    pub runtime: Option<Runtime>,
    /// The uid of the Kubernetes pod.
    pub pod: Option<String>,
}

/// What runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Runtime {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// A kubelet, through the runtime of its node.
    Kubernetes,
}

/// Reads `hierarchy:controllers:path` lines: cgroups(7). Where several hierarchies are mounted, the
/// unified one and systemd's own name units; containers may show in any.
pub fn parse(text: &str) -> Membership {
    let mut found = Membership::default();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let components: Vec<&str> = path.split('/').filter(|component| !component.is_empty()).collect();
        let innermost = |pick: fn(&str) -> Option<String>| components.iter().rev().find_map(|c| pick(c));
        found.pod = found.pod.or_else(|| innermost(pod));
        if found.container.is_none() {
            found.container = innermost(container);
            found.runtime =
                found.container.as_deref().and_then(|id| runtime(&components, id, found.pod.as_deref()));
        }
        if matches!(controllers, "" | "name=systemd") {
            found.unit = found.unit.or_else(|| innermost(unit));
            let slices = components.iter().take_while(|component| is_a(component, "slice")).count();
            found.is_system_service |= components.first() == Some(&"system.slice")
                && components.get(slices).copied() == found.unit.as_deref()
                && found.unit.as_deref().is_some_and(|unit| is_a(unit, "service"));
        }
    }
    found
}

/// Units that processes are put into: systemd.service(5), systemd.scope(5).
fn unit(component: &str) -> Option<String> {
    (is_a(component, "service") || is_a(component, "scope")).then(|| component.to_owned())
}

/// Whether a component names a unit of that type.
fn is_a(component: &str, unit_type: &str) -> bool {
    component.rsplit_once('.').is_some_and(|(_, suffix)| suffix == unit_type)
}

/// `docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>.scope`, `libpod-<id>.scope`, and the
/// bare id where the runtime manages cgroups itself.
fn container(component: &str) -> Option<String> {
    const ID_LENGTH: usize = 64;
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let id = name.rsplit(['-', ':']).next()?;
    (id.len() == ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// What runs the container with that id. None for those that users run without root, which root's own
/// runtime does not know.
fn runtime(components: &[&str], id: &str, pod: Option<&str>) -> Option<Runtime> {
    if components.first() == Some(&"user.slice") {
        return None;
    }
    if pod.is_some() {
        return Some(Runtime::Kubernetes);
    }
    let at = components.iter().rposition(|component| component.contains(id))?;
    let parent = at.checked_sub(1).and_then(|above| components.get(above)).copied();
    match components.get(at)?.split_once('-').map(|(prefix, _)| prefix).or(parent)? {
        "docker" => Some(Runtime::Docker),
        "libpod" | "libpod_parent" => Some(Runtime::Podman),
        _ => None,
    }
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
    const UID: &str = "12345678-1234-1234-1234-123456789abc";

    fn membership(unit: Option<&str>, container: Option<&str>, pod: Option<&str>) -> Membership {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Membership {
            unit: owned(unit),
            is_system_service: false,
            container: owned(container),
            runtime: None,
            pod: owned(pod),
        }
    }

    fn run_by(runtime: Runtime, membership: Membership) -> Membership {
        Membership { runtime: Some(runtime), ..membership }
    }

    #[test]
    fn units() {
        let unit = |path: &str| parse(&format!("0::{path}\n")).unit;
        assert_eq!(unit("/system.slice/kafka.service").as_deref(), Some("kafka.service"));
        assert_eq!(
            unit("/system.slice/system-getty.slice/getty@tty1.service").as_deref(),
            Some("getty@tty1.service")
        );
        assert_eq!(
            unit("/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service/sub").as_deref(),
            Some("foo.service")
        );
        assert_eq!(unit("/"), None);
    }

    #[test]
    fn a_service_is_the_systems_own_when_nothing_but_slices_is_above_it() {
        let system = |path: &str| parse(&format!("0::{path}\n")).is_system_service;
        assert!(system("/system.slice/kafka.service"));
        assert!(system("/system.slice/system-getty.slice/getty@tty1.service/sub"));
        assert!(!system("/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service"));
        assert!(!system("/system.slice/docker-0123.scope/system.slice/inner.service"));
    }

    #[test]
    fn containers_and_pods_by_every_runtime() {
        for (path, unit, runtime) in [
            (
                format!("/system.slice/docker-{ID}.scope"),
                Some(format!("docker-{ID}.scope")),
                Some(Runtime::Docker),
            ),
            (format!("/docker/{ID}"), None, Some(Runtime::Docker)),
            (format!("/docker/{ID}/inner"), None, Some(Runtime::Docker)),
            (
                format!("/machine.slice/libpod-{ID}.scope/container"),
                Some(format!("libpod-{ID}.scope")),
                Some(Runtime::Podman),
            ),
            (format!("/default/{ID}"), None, None),
            (
                format!("/user.slice/user-1.slice/user@1.service/user.slice/libpod-{ID}.scope"),
                Some(format!("libpod-{ID}.scope")),
                None,
            ),
        ] {
            let expected = Membership { runtime, ..membership(unit.as_deref(), Some(ID), None) };
            assert_eq!(parse(&format!("0::{path}")), expected, "{path}");
        }
        let systemd = format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{ID}.scope",
            UID.replace('-', "_")
        );
        let unit = format!("cri-containerd-{ID}.scope");
        let expected = run_by(Runtime::Kubernetes, membership(Some(&unit), Some(ID), Some(UID)));
        assert_eq!(parse(&format!("0::{systemd}")), expected);
        let cgroupfs = format!("/kubepods/besteffort/pod{UID}/{ID}");
        let expected = run_by(Runtime::Kubernetes, membership(None, Some(ID), Some(UID)));
        assert_eq!(parse(&format!("0::{cgroupfs}")), expected);
        assert_eq!(parse("0::/kubepods/podinfo"), Membership::default());
    }

    #[test]
    fn with_several_hierarchies_systemds_own_names_the_unit() {
        let text =
            format!("12:memory:/docker/{ID}\n4:cpu:/other.service\n1:name=systemd:/system.slice/x.service\n");
        assert_eq!(
            parse(&text),
            Membership {
                is_system_service: true,
                ..run_by(Runtime::Docker, membership(Some("x.service"), Some(ID), None))
            }
        );
    }
}
