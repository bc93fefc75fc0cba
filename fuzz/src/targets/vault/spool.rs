//! Frames of a spool: as a crash may have left them, and with seals that hold.

use vault::fuzzing::{spool_frame, spool_frames};
use vault::postgres::Lsn;

use super::sealed::ring;
use crate::Target;
use crate::cursor::Cursor;

const STREAM: &str = "0123456789abcdef";
/// Frames of one input.
const FRAMES_MAX: usize = 8;

// A torn header may ask for all of a half.
pub(crate) const TARGET: Target =
    Target::new("vault-spool", "frames of a stream's spool", read, seeds).memory(48 << 20);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    if input.byte() % 2 == 0 {
        // Nothing that was not sealed is read.
        assert_eq!(spool_frames(ring(), STREAM, input.0), []);
        return;
    }
    let (mut half, mut expect, mut honest) = (Vec::new(), Vec::new(), true);
    for _ in 0..FRAMES_MAX {
        if input.0.is_empty() {
            break;
        }
        let (round, timeline) = (u64::from(input.byte() / 128), u32::from(input.byte()));
        let (start, lie) = (input.u64(), u64::from(input.byte() / 128));
        let bytes = input.piece();
        let end = start.wrapping_add(bytes.len() as u64).wrapping_add(lie);
        let stretch = (Lsn(start), Lsn(end));
        half.extend(spool_frame(ring(), STREAM, (round, timeline), stretch, bytes));
        // Of the first round, with the length that its stretch has, below the log's end.
        honest &= lie == 0 && start.checked_add(bytes.len() as u64) == Some(end);
        honest &= *expect.first().map_or(&round, |(first, _)| first) == round;
        if honest {
            expect.push((round, (timeline, Lsn(start), bytes.len())));
        }
    }
    let expect: Vec<_> = expect.into_iter().map(|(_, frame)| frame).collect();
    assert_eq!(spool_frames(ring(), STREAM, &half), expect);
}

fn seeds() -> Vec<Vec<u8>> {
    let frame = |round: u8, start: u64, bytes: &[u8]| {
        [&[round, 1], &start.to_le_bytes()[..], &[0], &crate::cursor::piece(bytes)].concat()
    };
    let sealed = [&[1], &frame(0, 100, b"log")[..], &frame(0, 103, b"and more")].concat();
    let torn = [&[1], &frame(0, 100, b"log")[..], &frame(255, 103, b"of another round")].concat();
    let stretch = (Lsn(100), Lsn(103));
    let raw = spool_frame(ring(), "another", (1, 1), stretch, b"log");
    vec![sealed, torn, [&[0], &raw[..]].concat()]
}
