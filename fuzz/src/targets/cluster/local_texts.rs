//! Small texts of the machine and of programs: `/proc`, `/etc/passwd`, the guard's statements,
//! epochs, JSON lines of programs, `sd_notify`, netlink, the files of a data directory.

use agent::node::files::{LocalFile, NodeFile};
use drivers::fuzzing;
use drivers::process::table::parse_stat;

use crate::Target;
use crate::cursor::Cursor;
use crate::round;

pub(crate) const TARGET: Target = Target::new(
    "local-texts",
    "texts of the kernel, of programs, of a data directory",
    read,
    seeds,
);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    match input.byte() % 9 {
        0 => {
            let _process = parse_stat(input.0);
        }
        1 => {
            let _lines = fuzzing::program_lines(input.0);
        }
        2 => {
            let _is_one = fuzzing::keeper_line(input.0);
        }
        3 => {
            let listed = fuzzing::netlink(input.0);
            assert!(listed <= input.0.len() / 16, "every message has a header");
        }
        4 => {
            let _is_there = fuzzing::passwd("backstay", &input.text());
        }
        5 => {
            let _is_ready = fuzzing::says_ready(input.0);
        }
        6 => {
            let text = input.text();
            let (book, statements) = text.split_once('\0').unwrap_or((&text, ""));
            let lines = book.lines().count() + statements.lines().count();
            assert!(fuzzing::epochs(book, statements) <= lines, "a line is about one resource");
        }
        7 => drop(round::json::<NodeFile>(input.0)),
        _ => {
            let local = serde_json::from_slice::<LocalFile>(input.0);
            let _map = local.map(|file| file.dial_map());
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let node = r#"{"cluster_id":"00","cluster":"x","node":"a","replica":1,"log_existed":true,
        "profile":"lan","endpoints":["127.0.0.1:1"]}"#;
    let stated = "x 1.7 1.6\n\0at_ns=5 node=a guard=3 resource=x epoch=1.9 empty=true \
                  seen_by=cgroup cause=lease";
    let mut address = vec![3];
    address.extend_from_slice(&36u32.to_ne_bytes());
    address.extend_from_slice(&20u16.to_ne_bytes());
    address.extend_from_slice(&[0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    address.extend_from_slice(&[2, 24, 0, 0, 2, 0, 0, 0, 8, 0, 2, 0, 127, 0, 0, 1, 0, 0, 0, 0]);
    let texts: [(u8, &[u8]); 7] = [
        (0, b"12 (a b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 77 1 1"),
        (1, b"{\"event\":\"active\",\"epoch\":\"1.7\"}\n{\"event\":\"standby\"}\n"),
        (2, b"{\"event\":\"promote\",\"epoch\":\"1.7\"}"),
        (4, b"root:x:0:0:root:/r:/bin/sh\nbackstay:x:99:99::/x:/bin/false"),
        (5, b"STATUS=x\nREADY=1"),
        (6, stated.as_bytes()),
        (7, node.as_bytes()),
    ];
    let of = |(choice, text): &(u8, &[u8])| [&[*choice][..], text].concat();
    texts.iter().map(of).chain([address]).collect()
}
