// SPDX-License-Identifier: MIT OR Apache-2.0

//! Takes from a thread all that it does not need to compute and to read what is open: it opens nothing,
//! writes nothing and runs nothing.

use nix::errno::Errno;
use nix::sys::prctl::set_no_new_privs;
use nix::sys::signal::{SigSet, Signal};

use super::seccomp::{self, Rule};

/// Confines this thread, for good, to its own memory and to pread(2). Threads that it starts are confined,
/// too. An error where the kernel cannot filter system calls, or where a container forbids to set a filter:
/// then the thread has lost its capabilities only.
pub fn confine() -> Result<(), Errno> {
    // What fails is no reason to leave out the rest.
    let steps = [leave_signals_to_others(), drop_capabilities(), set_no_new_privs()];
    let filtered = seccomp::restrict_to(rules());
    steps.into_iter().chain([filtered]).collect()
}

/// The calls that remain, whatever their arguments: what glibc and musl do for `malloc`, threads, locks,
/// sleeping and `abort`, and the two that read what is open. Testing a descriptor would cost the reading
/// ones twice as much: the kernel remembers which calls are let through without any test.
const UNTESTED: [libc::c_long; 23] = [
    libc::SYS_pread64,
    libc::SYS_fadvise64,
    libc::SYS_futex,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_sched_yield,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
];

/// The flags with which `pthread_create` starts a thread. musl adds `CLONE_DETACHED`, which means nothing.
const THREAD: libc::c_int = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;

/// `MAP_TYPE` of include/uapi/linux/mman.h (shared or private), and whether there is a file.
const KIND_OF_MEMORY: libc::c_int = 0xf | libc::MAP_ANONYMOUS;
const PRIVATE_MEMORY: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// All calls that remain. What a C library tries besides (asking for the number of processors, say) fails
/// without harm.
fn rules() -> Vec<Rule> {
    let memory = Rule::allow(libc::SYS_mmap).where_bits(2, libc::PROT_EXEC, 0);
    let abort = Rule::allow(libc::SYS_tgkill).where_is(0, nix::unistd::getpid().as_raw());
    let tested = [
        // Memory that is neither a file's nor a program's.
        memory.where_bits(3, KIND_OF_MEMORY, PRIVATE_MEMORY),
        Rule::allow(libc::SYS_mprotect).where_bits(2, libc::PROT_EXEC, 0),
        // Threads, but no processes. A filter cannot see the flags of clone3(2), which lie in memory; where that
        // call is not there, C libraries take clone(2).
        Rule::allow(libc::SYS_clone).where_bits(0, !libc::CLONE_DETACHED, THREAD),
        Rule::fail(libc::SYS_clone3, Errno::ENOSYS),
        Rule::allow(libc::SYS_prctl).where_is(0, libc::PR_SET_NAME),
        // A panic says why on standard error, and ends this process.
        Rule::allow(libc::SYS_write).where_is(0, libc::STDERR_FILENO),
        abort.where_is(2, libc::SIGABRT),
    ];
    UNTESTED.map(Rule::allow).into_iter().chain(tested).collect()
}

/// Blocks all signals but those for what the thread itself does wrong, so that no handler runs confined.
/// Others, sent to the process, are taken by another thread.
fn leave_signals_to_others() -> Result<(), Errno> {
    let mut signals = SigSet::all();
    for own in
        [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGTRAP, Signal::SIGABRT]
    {
        signals.remove(own);
    }
    signals.thread_block()
}

/// `_LINUX_CAPABILITY_VERSION_3` of include/uapi/linux/capability.h: sets of 64 bits.
const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    /// 0 is the calling thread.
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct`: the lower or the upper half of each set.
#[repr(C)]
#[derive(Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// capset(2): capabilities belong to the thread. The C library does not wrap the call, and passes it on to
/// no other thread.
fn drop_capabilities() -> Result<(), Errno> {
    let header = Header { version: VERSION_3, pid: 0 };
    let none = [Sets::default(), Sets::default()];
    // SAFETY: both are laid out as the kernel reads them, and it keeps no pointer.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    Errno::result(done).map(drop)
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs::{self, File};
    use std::io;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use nix::sys::signal::kill;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use nix::unistd::{execve, fork, getpid, pipe, write};

    use super::*;

    /// Runs `test` on a confined thread, with an open file with these bytes.
    fn confined<T: Send + 'static>(bytes: &[u8], test: impl FnOnce(&File) -> T + Send + 'static) -> T {
        let device = tempfile::tempfile().unwrap();
        device.write_all_at(bytes, 0).unwrap();
        let work = move || {
            confine().unwrap();
            test(&device)
        };
        thread::spawn(work).join().unwrap()
    }

    fn code<T>(result: io::Result<T>) -> Option<i32> {
        result.err().and_then(|error| error.raw_os_error())
    }

    #[test]
    fn nothing_is_opened_written_started_or_signalled() {
        let (reader, writer) = pipe().unwrap();
        let other = tempfile::tempfile().unwrap();
        let refused = confined(b"", move |device| {
            let path = CString::new("/proc/self/exe").unwrap();
            let results = [
                ("open", code(File::open("/dev/null"))),
                ("create", code(File::create("/tmp/whyfull-confined"))),
                ("remove", code(fs::remove_file("/tmp/whyfull-confined"))),
                ("list", code(fs::read_dir("/"))),
                ("write", code(write(&writer, b"x").map_err(io::Error::from))),
                ("write to the device", code(device.write_at(b"x", 0))),
                ("truncate", code(other.set_len(0))),
                ("execve", execve::<CString, CString>(&path, &[], &[]).err().map(|errno| errno as i32)),
                ("fork", {
                    // SAFETY: there is no child.
                    unsafe { fork() }.err().map(|errno| errno as i32)
                }),
                ("socket", code(TcpListener::bind("127.0.0.1:0"))),
                ("socketpair", {
                    let pair = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::empty());
                    pair.err().map(|errno| errno as i32)
                }),
                ("ptrace", {
                    // SAFETY: there is no process with this number.
                    let done = unsafe { libc::ptrace(libc::PTRACE_ATTACH, libc::pid_t::MAX, 0, 0) };
                    Errno::result(done).err().map(|errno| errno as i32)
                }),
                ("kill", kill(getpid(), None).err().map(|errno| errno as i32)),
            ];
            results.into_iter().filter(|&(_, code)| code != Some(libc::EPERM)).collect::<Vec<_>>()
        });
        assert_eq!(refused, []);
        drop(reader);
    }

    /// Neither memory that can be run, nor memory that is a file.
    #[test]
    fn only_private_memory_is_mapped() {
        let map = |prot, flags, fd| {
            // SAFETY: maps fresh memory, which nobody uses, at an address that the kernel chooses.
            let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, prot, flags, fd, 0) };
            if at == libc::MAP_FAILED { Errno::last() as i32 } else { 0 }
        };
        let results = confined(&[0; 4096], move |device| {
            let (data, anonymous) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_ANONYMOUS);
            [
                map(data, anonymous | libc::MAP_PRIVATE, -1),
                map(data | libc::PROT_EXEC, anonymous | libc::MAP_PRIVATE, -1),
                map(data, anonymous | libc::MAP_SHARED, -1),
                map(libc::PROT_READ, libc::MAP_PRIVATE, device.as_raw_fd()),
            ]
        });
        assert_eq!(results, [0, libc::EPERM, libc::EPERM, libc::EPERM]);
    }

    #[test]
    fn reading_memory_threads_and_sleep_are_there() {
        let read = confined(b"superblock", |device| {
            let large = vec![7_u8; 100_000_000];
            thread::sleep(Duration::from_micros(10));
            let found = thread::scope(|scope| {
                let read = || {
                    let mut found = [0; 5];
                    device.read_exact_at(&mut found, 5).unwrap();
                    // What a confined thread starts is no less confined.
                    (found, code(File::open("/dev/null")))
                };
                scope.spawn(read).join().unwrap()
            });
            (found, large.iter().map(|&byte| u64::from(byte)).sum::<u64>())
        });
        assert_eq!(read, ((*b"block", Some(libc::EPERM)), 700_000_000));
        // The other threads of the process are not confined.
        File::open("/dev/null").unwrap();
    }

    /// A panic ends only this thread here, and the process where panics abort.
    #[test]
    #[allow(clippy::panic)]
    fn a_panic_can_be_told() {
        let work = || {
            confine().unwrap();
            panic!("as planned");
        };
        let panicked = thread::Builder::new().spawn(work).unwrap().join().unwrap_err();
        assert_eq!(panicked.downcast_ref::<&str>(), Some(&"as planned"));
    }

    #[test]
    fn no_capability_is_left_and_no_signal_is_handled() {
        let (sender, receiver) = mpsc::channel();
        let (until_read, wait) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let tid = nix::unistd::gettid();
            confine().unwrap();
            sender.send(tid).unwrap();
            wait.recv().unwrap_err();
        });
        let status = fs::read_to_string(format!("/proc/self/task/{}/status", receiver.recv().unwrap()));
        drop(until_read);
        thread.join().unwrap();
        let status = status.unwrap();
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            value.trim_start_matches(':').trim().to_owned()
        };
        assert_eq!((field("Seccomp").as_str(), field("NoNewPrivs").as_str()), ("2", "1"));
        assert_eq!(["CapPrm", "CapEff"].map(field), ["0000000000000000"; 2].map(str::to_owned));
        let blocked = u64::from_str_radix(&field("SigBlk"), 16).unwrap();
        let is_blocked = |signal: libc::c_int| blocked >> (signal - 1) & 1 == 1;
        assert!(is_blocked(libc::SIGINT) && is_blocked(libc::SIGTERM) && !is_blocked(libc::SIGSEGV));
    }
}
