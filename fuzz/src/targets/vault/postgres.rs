//! What PostgreSQL and its files say: positions, labels, histories, names, connection texts,
//! messages of a replication stream.

use vault::postgres::exclude::{fate, relation};
use vault::postgres::{ConnInfo, Lsn, Position, SegmentName, parse_label};
use vault::wal::History;

use crate::Target;
use crate::cursor::Cursor;

pub(crate) const TARGET: Target =
    Target::new("vault-postgres", "texts and messages of PostgreSQL", read, seeds);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    match input.byte() % 10 {
        0 => {
            if let Some(position) = Position::parse(&input.text()) {
                assert_eq!(Position::parse(&position.encode()).as_ref(), Some(&position));
                let _segments = (
                    position.start.segment_start(position.segment_bytes),
                    position.stop.segment_end(position.segment_bytes),
                );
            }
        }
        1 => {
            let _begin = parse_label(&input.text());
        }
        2 => {
            let timeline = u32::from(input.byte());
            let Some(history) = History::parse(timeline, &input.text()) else { return };
            assert!(history.steps.windows(2).all(|w| w[0].timeline < w[1].timeline));
            assert!(history.from(timeline, Lsn(0)).is_some());
        }
        3 => {
            let size = 1u64 << (20 + input.byte() % 11);
            if let Some(name) = SegmentName::parse(&input.text(), size) {
                assert_eq!(SegmentName::parse(&name.file_name(size), size), Some(name));
            }
        }
        4 => {
            if let Some(lsn) = Lsn::parse(&input.text()) {
                assert_eq!(Lsn::parse(&lsn.to_string()), Some(lsn));
            }
        }
        5 => drop(ConnInfo::parse(&input.text())),
        6 => {
            let text = input.text();
            let _what = (fate(&text), relation(&text));
        }
        7 => {
            let carried = vault::fuzzing::replication_message(input.0);
            assert!(carried.unwrap_or(0) <= input.0.len());
        }
        8 => {
            let _known = vault::fuzzing::base_backup_message(input.0);
        }
        _ => {
            let _known = vault::fuzzing::base_backup_manifest(input.0);
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let position = "postgresql 150018 system 7400000000000000001 timeline 2 start 0/2000028 \
                    stop 0/2000138 segment 16777216 xid 742";
    let label =
        "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nSTART TIMELINE: 3\n";
    let conninfo = "host='/run/a b' port=6000 user=u dbname=d password=it\\'s";
    let manifest = "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{ \"Path\": \"a\", \
                    \"Size\": 1, \"Checksum-Algorithm\": \"SHA256\", \"Checksum\": \"00\" }\n],\n\
                    \"Manifest-Checksum\": \"00\"}\n";
    let texts: [(u8, &[u8]); 10] = [
        (0, position.as_bytes()),
        (1, label.as_bytes()),
        (2, b"\x041\t0/3000000\twhy\n\n2\t0/5000100\tbefore\n"),
        (3, b"\x04000000010000000000000001"),
        (4, b"16/B374D848"),
        (5, conninfo.as_bytes()),
        (6, b"base/5/16384_fsm.1"),
        (8, b"n16385.tar\0/srv/space\0"),
        (9, manifest.as_bytes()),
        (7, b"w\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0log"),
    ];
    texts.iter().map(|(choice, text)| [&[*choice][..], text].concat()).collect()
}
