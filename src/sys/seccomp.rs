// SPDX-License-Identifier: MIT OR Apache-2.0

//! seccomp(2): a list of the system calls that a thread may make from now on. Every other call has no
//! effect and fails with `EPERM`. Threads that it starts inherit the list, and nothing takes it away.

use nix::errno::Errno;

/// The architecture whose system calls have the numbers that this program was built with, as
/// include/uapi/linux/audit.h names it. Elsewhere no list is set.
const AUDIT_ARCH: Option<u32> = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
    Some(0xc000_003e)
} else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
    Some(0xc000_00b7)
} else {
    None
};

/// A system call that is answered in another way than by `EPERM`.
pub(super) struct Rule {
    number: libc::c_long,
    only: Vec<Only>,
    answer: u32,
}

/// What the low 32 bits of an argument have to be, as far as `mask` has them. The upper half is not
/// compared: the kernel cuts it off descriptors and process numbers, and no flag lies there.
struct Only {
    argument: u32,
    mask: u32,
    value: u32,
}

impl Rule {
    /// The call is made.
    pub(super) fn allow(number: libc::c_long) -> Self {
        Self { number, only: Vec::new(), answer: libc::SECCOMP_RET_ALLOW }
    }

    /// The call has no effect and fails with `errno`.
    pub(super) fn fail(number: libc::c_long, errno: Errno) -> Self {
        Self { number, only: Vec::new(), answer: failure(errno) }
    }

    /// This only where an argument, counted from 0, has this value.
    pub(super) fn where_is(self, argument: u32, value: libc::c_int) -> Self {
        self.where_bits(argument, libc::c_int::from_ne_bytes([u8::MAX; 4]), value)
    }

    /// This only where the bits of `mask` in an argument, counted from 0, have this value.
    pub(super) fn where_bits(mut self, argument: u32, mask: libc::c_int, value: libc::c_int) -> Self {
        self.only.push(Only { argument, mask: mask.cast_unsigned(), value: value.cast_unsigned() });
        self
    }
}

/// Restricts this thread to what `rules` let through. An error where the kernel has no seccomp, or where
/// a container's own list forbids to set another: then nothing has changed. `no_new_privs` has to be set
/// before, see prctl(2).
pub(super) fn restrict_to(rules: Vec<Rule>) -> Result<(), Errno> {
    let architecture = AUDIT_ARCH.ok_or(Errno::EOPNOTSUPP)?;
    let mut filter = program(architecture, rules).ok_or(Errno::EINVAL)?;
    let len = u16::try_from(filter.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // The other flags would restrict other threads, too. Without this one, kernels before 5.16 slow the
    // thread down as if it ran code of somebody else (`spec_store_bypass_disable` in kernel-parameters.txt).
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the kernel copies as many instructions as there are and keeps no pointer.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    Errno::result(done).map(drop)
}

fn failure(errno: Errno) -> u32 {
    libc::SECCOMP_RET_ERRNO | (errno as i32).cast_unsigned()
}

/// Instructions as in Documentation/networking/filter.rst: `BPF_LD | BPF_W | BPF_ABS`,
/// `BPF_ALU | BPF_AND | BPF_K`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_JMP | BPF_JGE | BPF_K` and
/// `BPF_RET | BPF_K`.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data` (include/uapi/linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// The low half of the first of six arguments, of eight bytes each.
const ARGUMENTS: u32 = 16;

/// Goes on so many steps further, by whether the test of `code` is true.
fn jump(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn step(code: u16, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

fn refuse() -> libc::sock_filter {
    step(RETURN, failure(Errno::EPERM))
}

/// The rules as a program. `None` where a part of it is longer than a jump reaches.
fn program(architecture: u32, mut rules: Vec<Rule>) -> Option<Vec<libc::sock_filter>> {
    rules.sort_unstable_by_key(|rule| rule.number);
    // A call by the numbers of another architecture (`int 0x80` on x86_64) is never let through.
    let is_native = jump(JUMP_IF_EQUAL, architecture, 1, 0);
    let mut steps = vec![step(LOAD, ARCHITECTURE), is_native, refuse(), step(LOAD, NUMBER)];
    steps.extend(search(&rules)?);
    Some(steps)
}

/// Finds the rule by halves. When a filter is set, the kernel runs it for every number there is to learn
/// which are always let through (`seccomp_cache_prepare_bitmap`, kernel/seccomp.c), so its length counts.
fn search(rules: &[Rule]) -> Option<Vec<libc::sock_filter>> {
    let (lower, upper) = rules.split_at(rules.len() / 2);
    match (lower, upper) {
        ([], [rule]) => leaf(rule),
        (_, [first, ..]) => {
            let (lower, upper) = (search(lower)?, search(upper)?);
            let number = u32::try_from(first.number).ok()?;
            let mut steps = vec![jump(JUMP_IF_AT_LEAST, number, u8::try_from(lower.len()).ok()?, 0)];
            steps.extend(lower);
            steps.extend(upper);
            Some(steps)
        }
        (_, []) => Some(vec![refuse()]),
    }
}

/// One rule, and refusal of all other numbers.
fn leaf(rule: &Rule) -> Option<Vec<libc::sock_filter>> {
    let tests = rule.only.iter().flat_map(|only| {
        let is_equal = jump(JUMP_IF_EQUAL, only.value, 1, 0);
        [step(LOAD, ARGUMENTS + 8 * only.argument), step(AND, only.mask), is_equal, refuse()]
    });
    let body: Vec<_> = tests.chain([step(RETURN, rule.answer)]).collect();
    let is_it = jump(JUMP_IF_EQUAL, u32::try_from(rule.number).ok()?, 0, u8::try_from(body.len()).ok()?);
    Some([is_it].into_iter().chain(body).chain([refuse()]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86_64: u32 = 0xc000_003e;

    /// What the kernel does with a call: net/core/filter.c, as far as the instructions are used here.
    fn answer(program: &[libc::sock_filter], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            NUMBER => number,
            ARCHITECTURE => architecture,
            _ => u32::try_from(arguments[(offset as usize - 16) / 8] & 0xffff_ffff).unwrap(),
        };
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match step.code {
                LOAD => accumulator = word(step.k),
                AND => accumulator &= step.k,
                JUMP_IF_EQUAL => at += usize::from(if accumulator == step.k { step.jt } else { step.jf }),
                JUMP_IF_AT_LEAST => at += usize::from(if accumulator >= step.k { step.jt } else { step.jf }),
                RETURN => return step.k,
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn what_is_not_on_the_list_fails() {
        let rules = vec![
            Rule::allow(1).where_is(0, 2),
            Rule::allow(60),
            Rule::fail(435, Errno::ENOSYS),
            Rule::allow(9).where_bits(2, 4, 0).where_bits(3, 0x2f, 0x22),
        ];
        let program = program(X86_64, rules).unwrap();
        let call = |number, arguments| answer(&program, X86_64, number, arguments);
        let refused = failure(Errno::EPERM);
        assert_eq!(call(60, [0; 6]), libc::SECCOMP_RET_ALLOW);
        for other in (0..500).filter(|number| ![1, 9, 60, 435].contains(number)) {
            assert_eq!(call(other, [2, 0, 0, 0x22, 0, 0]), refused, "{other}");
        }
        // The same by the numbers of the x32 ABI, and of another architecture.
        assert_eq!(call(0x4000_0000 + 60, [0; 6]), refused);
        assert_eq!(answer(&program, 0x4000_0003, 60, [0; 6]), refused);
        assert_eq!(call(435, [0; 6]), failure(Errno::ENOSYS));
        assert_eq!(call(1, [2, 0, 0, 0, 0, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(call(1, [1, 2, 2, 2, 2, 2]), refused);
        assert_eq!(call(9, [0, 4096, 3, 0x22, 0, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(call(9, [0, 4096, 7, 0x22, 0, 0]), refused);
        assert_eq!(call(9, [0, 4096, 3, 0x21, 0, 0]), refused);
    }
}
