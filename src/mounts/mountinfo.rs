// SPDX-License-Identifier: MIT OR Apache-2.0

//! The text of /proc/PID/mountinfo: `proc_pid_mountinfo(5)`. Pure, over bytes, because
//! mount points may be named with any bytes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::Mount;
use crate::model::traits::TraitsOf;

/// Position of the first optional field; any number of them follow, ended by a lone `-`.
const FIRST_OPTIONAL: usize = 6;

/// The mounts in `text`. A line that is no mount (the kernel writes none) is passed over.
pub fn parse(text: &[u8], traits_of: TraitsOf) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(|line| parse_line(line, traits_of)).collect()
}

fn parse_line(line: &[u8], TraitsOf(traits_of): TraitsOf) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let dash = FIRST_OPTIONAL + fields.get(FIRST_OPTIONAL..)?.iter().position(|field| *field == b"-")?;
    let text = |index: usize| std::str::from_utf8(fields.get(index)?).ok();
    let path = |index: usize| Some(OsString::from_vec(unescape(fields.get(index)?)));
    let fstype = text(dash + 1)?;
    Some(Mount {
        id: text(0)?.parse().ok()?,
        parent: text(1)?.parse().ok()?,
        dev: text(2)?.parse().ok()?,
        root: path(3)?.into(),
        mountpoint: path(4)?.into(),
        fstype: fstype.to_owned(),
        traits: traits_of(fstype),
        source: path(dash + 2)?,
        options: fields.get(dash + 3).map(|options| options.to_vec()).unwrap_or_default(),
    })
}

/// Space, tab, newline and backslash are written as `\` and three octal digits
/// (`fs/proc_namespace.c`, `mangle`).
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, octal(tail)) {
            (b'\\', Some(value)) => {
                plain.push(value);
                rest = &tail[3..];
            }
            _ => plain.push(byte),
        }
    }
    plain
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits.get(..3)?).ok()?;
    // from_str_radix would take a sign.
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| u8::from_str_radix(digits, 8).ok())?
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &[u8]) -> Vec<Mount> {
        super::parse(text, TraitsOf::default())
    }
    use crate::sys::Dev;

    #[test]
    fn optional_fields_are_any_number() {
        for optional in ["", "shared:1 ", "shared:1 master:2 propagate_from:3 unbindable "] {
            let line =
                format!("36 35 98:0 /mnt1 /mnt2 rw,noatime {optional}- ext3 /dev/root rw,errors=continue");
            let [mount] = parse(line.as_bytes()).try_into().unwrap();
            assert_eq!((mount.id, mount.parent, mount.dev), (36, 35, Dev { major: 98, minor: 0 }));
            assert_eq!(
                (mount.root.as_path(), mount.mountpoint.as_path()),
                (Path::new("/mnt1"), Path::new("/mnt2"))
            );
            assert_eq!((mount.fstype.as_str(), mount.source.to_str()), ("ext3", Some("/dev/root")));
        }
    }

    #[test]
    fn escapes_stand_for_their_bytes() {
        assert_eq!(unescape(br"a\040b\011\012\134c"), b"a b\t\n\\c");
        assert_eq!(unescape(br"\99\+12\7"), br"\99\+12\7", "what is no escape stays");
        assert_eq!(unescape(b"\xff\\040"), b"\xff ");
    }

    #[test]
    fn an_empty_source_and_what_is_no_mount() {
        assert_eq!(parse(b"1 2 0:3 / /x rw -  \n")[0].fstype, "");
        assert_eq!(parse(b"\n1 2 3\nx 2 0:3 / /x rw - t s o\n1 2 0:3 / /x rw shared:1 t s o\n"), []);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
            parse(&bytes);
        }

        #[test]
        fn escaped_names_read_back(name in proptest::collection::vec(1u8..=255, 1..64)) {
            let escaped: Vec<u8> = name.iter().flat_map(|&b| match b {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{b:03o}").into_bytes(),
                _ => vec![b],
            }).collect();
            proptest::prop_assert_eq!(unescape(&escaped), name);
        }
    }
}
