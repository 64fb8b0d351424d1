//! The flags of an open descriptor, in the names of open(2).

/// Flags that may be set besides the access mode. Those that contain others come first.
const NAMES: [(i32, &str); 13] = [
    (libc::O_TMPFILE, "O_TMPFILE"),
    (libc::O_SYNC, "O_SYNC"),
    (libc::O_PATH, "O_PATH"),
    (libc::O_APPEND, "O_APPEND"),
    (libc::O_NONBLOCK, "O_NONBLOCK"),
    (libc::O_DSYNC, "O_DSYNC"),
    (libc::O_ASYNC, "O_ASYNC"),
    (libc::O_DIRECT, "O_DIRECT"),
    (libc::O_DIRECTORY, "O_DIRECTORY"),
    (libc::O_NOFOLLOW, "O_NOFOLLOW"),
    (libc::O_NOATIME, "O_NOATIME"),
    (libc::O_CLOEXEC, "O_CLOEXEC"),
    (libc::O_TRUNC, "O_TRUNC"),
];

/// `O_RDWR|O_APPEND`. Flags without a name of their own are left out.
pub fn names(flags: i32) -> String {
    // Not O_ACCMODE: musl's (include/fcntl.h) contains O_PATH.
    let access = match flags & (libc::O_WRONLY | libc::O_RDWR) {
        libc::O_RDONLY => "O_RDONLY",
        libc::O_WRONLY => "O_WRONLY",
        _ => "O_RDWR",
    };
    let mut left = flags;
    let mut names = vec![access];
    for (flag, name) in NAMES {
        if left & flag == flag {
            names.push(name);
            left &= !flag;
        }
    }
    names.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_is_named_once() {
        assert_eq!(names(0), "O_RDONLY");
        assert_eq!(names(libc::O_RDWR | libc::O_APPEND | libc::O_CLOEXEC), "O_RDWR|O_APPEND|O_CLOEXEC");
        assert_eq!(names(libc::O_WRONLY | libc::O_SYNC), "O_WRONLY|O_SYNC");
        assert_eq!(names(libc::O_RDWR | libc::O_TMPFILE), "O_RDWR|O_TMPFILE");
        assert_eq!(names(libc::O_PATH | libc::O_CLOEXEC), "O_RDONLY|O_PATH|O_CLOEXEC");
        // A flag that open(2) does not name.
        assert_eq!(names(libc::O_WRONLY | 1 << 30), "O_WRONLY");
    }
}
