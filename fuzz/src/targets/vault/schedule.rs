//! The file that says what runs when, the times in it, and the book of what ran.

use vault::schedule::{ScheduleFile, When, Window};

use crate::Target;
use crate::cursor::Cursor;

pub(crate) const TARGET: Target =
    Target::new("vault-schedule", "the schedule, its times, its book", read, seeds)
        .memory(32 << 20);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    match input.byte() % 4 {
        0 => {
            if let Ok(file) = ScheduleFile::parse(&input.text()) {
                let _plan = file.plan();
            }
        }
        1 => {
            if let Ok(when) = When::parse(&input.text()) {
                let again = When::parse(&when.to_string());
                assert_eq!(again.map(|w| w.to_string()), Ok(when.to_string()));
            }
        }
        2 => drop(Window::parse(&input.text())),
        _ => {
            let _jobs = vault::fuzzing::book(&input.text());
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let file = "repository = \"/b\"\nwindow = \"22:00-06:00\"\nat_once = 2\n[limits]\n\
                read_kib = 100\n[[source]]\ndirectory = \"/d\"\nname = \"d\"\n\
                backup = \"every 6h\"\nprove = \"at sun 02:30\"\n[verify]\nwhen = \"at 03:00\"\n\
                parts = 7\n[cleanup]\nwhen = \"every 1d\"\n";
    let texts = [
        (0, file),
        (1, "every 6h"),
        (1, "at sun 02:30"),
        (2, "22:00-06:00"),
        (3, r#"{"version":1,"jobs":[]}"#),
    ];
    texts.iter().map(|(choice, text)| [&[*choice][..], text.as_bytes()].concat()).collect()
}
