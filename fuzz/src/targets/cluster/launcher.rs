//! What agent, launcher and guard say to each other: frames, packets, and what is in them.

use drivers::guard::wire::{FromGuard, ToGuard};
use drivers::protocol::{Event, FrameError, FrameReader, Request, encode_frame};
use model::Epoch;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

use crate::Target;
use crate::cursor::Cursor;
use crate::round;

pub(crate) const TARGET: Target =
    Target::new("launcher", "frames and packets of launcher and guard", read, seeds);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    match input.byte() % 6 {
        0 => drop(round::postcard::<Request>(input.0)),
        1 => drop(round::postcard::<Event>(input.0)),
        2 => stream::<Request>(input),
        3 => stream::<Event>(input),
        4 => {
            if let Ok(packet) = postcard::from_bytes::<ToGuard<'_>>(input.0) {
                let written = round::encoded(&packet);
                assert_eq!(postcard::from_bytes::<ToGuard<'_>>(&written), Ok(packet));
            }
        }
        _ => {
            if let Ok(packet) = postcard::from_bytes::<FromGuard<'_>>(input.0) {
                let written = round::encoded(&packet);
                assert_eq!(postcard::from_bytes::<FromGuard<'_>>(&written), Ok(packet));
            }
        }
    }
}

/// A stream says the same, wherever it is cut.
fn stream<T: Serialize + DeserializeOwned + PartialEq + Debug>(mut input: Cursor<'_>) {
    let cut = usize::from(input.byte()) + 1;
    let whole = messages::<T>([input.0]);
    let parts = messages::<T>(input.0.chunks(cut));
    assert_eq!(whole, parts);
    for message in whole.0 {
        let mut reader = FrameReader::default();
        reader.feed(&encode_frame(&message).expect("what was read can be written"));
        assert_eq!(reader.next_message(), Ok(Some(message)));
    }
}

fn messages<'a, T: DeserializeOwned>(
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<T>, Option<FrameError>) {
    let (mut reader, mut seen) = (FrameReader::default(), Vec::new());
    for part in parts {
        reader.feed(part);
        loop {
            match reader.next_message() {
                Ok(Some(message)) => seen.push(message),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}

fn seeds() -> Vec<Vec<u8>> {
    let epoch = Epoch { generation: 1, counter: 7 };
    let hello = round::encoded(&Request::Hello { version: 1 });
    let frames: Vec<u8> = [Request::List, Request::Hello { version: 1 }]
        .iter()
        .flat_map(|request| encode_frame(request).unwrap_or_default())
        .collect();
    let kill = round::encoded(&ToGuard::Kill { resource: "a", epoch });
    let armed = round::encoded(&FromGuard::Armed { resource: "a", epoch });
    let list = [(0, hello), (2, [vec![3], frames].concat()), (4, kill), (5, armed)];
    list.iter().map(|(choice, bytes)| [&[*choice][..], bytes].concat()).collect()
}
