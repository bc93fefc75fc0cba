//! Frames of a peer connection, cut anywhere; the hello in one; large messages out of parts.

use std::pin::Pin;
use std::task::{Context, Poll};

use agent::net::peers::frame::{Assembly, FrameError, Hello, Kind, Reader, VERSION, write};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, ReadBuf};

use crate::Target;
use crate::cursor::Cursor;
use crate::round;

pub(crate) const TARGET: Target =
    Target::new("peer-frame", "frames of a peer connection", read, seeds);

fn read(input: &[u8]) {
    let mut input = Cursor(input);
    let cut = usize::from(u16::from_le_bytes(input.array())) + 1;
    let whole = frames(input.0, usize::MAX);
    let parts = frames(input.0, cut);
    assert_eq!(whole, parts, "cuts change nothing");
    let mut assembly = Assembly::default();
    let mut written = BytesMut::new();
    for (kind, body) in &whole {
        write(*kind, body, &mut written);
        match kind {
            Kind::Hello => drop(round::postcard::<Hello>(body)),
            Kind::Part | Kind::Last => {
                let last = *kind == Kind::Last;
                let whole = assembly.add(body, last).expect("an input is no large message");
                assert_eq!(whole.is_some(), last);
            }
            _ => {}
        }
    }
    assert!(input.0.starts_with(&written), "what was read is written back");
}

/// The frames that can be read until one can't, where at most `cut` bytes arrive at once.
fn frames(bytes: &[u8], cut: usize) -> Vec<(Kind, Bytes)> {
    let mut reader = Reader::new(Slow { bytes, cut });
    let mut frames = Vec::new();
    loop {
        match reader.next().now_or_never().expect("bytes in memory are there") {
            Ok(frame) => frames.push(frame),
            Err(FrameError::Io(error)) => panic!("memory has no errors: {error}"),
            Err(_) => return frames,
        }
    }
}

/// A connection on which few bytes arrive at once.
struct Slow<'a> {
    bytes: &'a [u8],
    cut: usize,
}

impl AsyncRead for Slow<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let length = self.cut.min(self.bytes.len()).min(into.remaining());
        let (now, later) = self.bytes.split_at(length);
        into.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let Ok(to_name) = "b".parse() else { return Vec::new() };
    let cluster = agent::identity::ClusterId([4; 16]);
    let hello = Hello { version: VERSION, cluster, from: 1, to: 2, to_name, generation: 3 };
    let mut bytes = BytesMut::from(&[3, 0][..]);
    write(Kind::Hello, &round::encoded(&hello), &mut bytes);
    write(Kind::Welcome, &[], &mut bytes);
    write(Kind::Message, b"message", &mut bytes);
    write(Kind::Part, b"large", &mut bytes);
    write(Kind::Ping, &[], &mut bytes);
    write(Kind::Last, b"message", &mut bytes);
    write(Kind::Superseded, &5u64.to_be_bytes(), &mut bytes);
    vec![bytes.to_vec()]
}
