//! Frames of a peer connection: a length (u32, big-endian, of what follows), a kind (one byte),
//! a body. Both sides check the length before they hold anything of that size.
//!
//! A message of up to [`PART_MAX`] bytes is one frame. A larger one goes in parts, so that small
//! messages and pings pass between them: a snapshot never stalls a vote.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::NodeName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::identity::ClusterId;

/// Version of the protocol; a connection of another one is refused.
pub const VERSION: u16 = 2;
/// Largest body of one frame, in bytes.
pub const PART_MAX: usize = 64 << 10;
/// Largest message in bytes (a snapshot).
pub const MESSAGE_MAX: usize = 64 << 20;
/// Largest hello, welcome or refusal, in bytes.
pub const HELLO_MAX: usize = 1 << 10;
/// Bytes in front of a body.
pub const HEAD: usize = 5;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first frame, from the side that connected: [`Hello`].
    Hello,
    /// Its answer: empty.
    Welcome,
    /// Its other answer: the reason, as text.
    Refusal,
    /// A whole message.
    Message,
    /// A part of a large message; more follow.
    Part,
    /// The last part of a large message.
    Last,
    /// Says that the sender is there; empty.
    Ping,
    /// Says that bytes have arrived since the last one; empty.
    Pong,
    /// The third answer to a hello: a higher generation began; its number, big-endian u64.
    Superseded,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Hello,
        Kind::Welcome,
        Kind::Refusal,
        Kind::Message,
        Kind::Part,
        Kind::Last,
        Kind::Ping,
        Kind::Pong,
        Kind::Superseded,
    ];

    fn body_max(self) -> usize {
        match self {
            Kind::Hello | Kind::Refusal => HELLO_MAX,
            Kind::Message | Kind::Part | Kind::Last => PART_MAX,
            Kind::Superseded => size_of::<u64>(),
            Kind::Welcome | Kind::Ping | Kind::Pong => 0,
        }
    }
}

/// Who connects to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of whoever connects.
    pub version: u16,
    /// The cluster.
    pub cluster: ClusterId,
    /// Replica that connects.
    pub from: u64,
    /// Replica that it means to reach.
    pub to: u64,
    /// Node that it means to reach.
    pub to_name: NodeName,
    /// Generation of whoever connects; 0 while it does not know any (it joins).
    pub generation: u64,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side closed it.
    #[error("the other side closed the connection")]
    Closed,
    /// The system or TLS reports an error.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// We ended it.
    #[error("the connection was ended: {0}")]
    Ended(&'static str),
    /// A frame that can't be.
    #[error("the other side sent a frame that can't be: {0}")]
    Malformed(&'static str),
}

/// Appends a frame.
///
/// # Panics
/// Where the body is larger than its kind allows: that is our own mistake.
pub fn write(kind: Kind, body: &[u8], out: &mut BytesMut) {
    assert!(body.len() <= kind.body_max(), "a frame within its limit");
    out.reserve(HEAD + body.len());
    out.put_u32(body.len() as u32 + 1);
    out.put_u8(kind as u8);
    out.put_slice(body);
}

/// Reads frames.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    buffer: BytesMut,
    arrived: u64,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from this side of a connection.
    pub fn new(from: R) -> Self {
        Reader { from, buffer: BytesMut::with_capacity(PART_MAX + HEAD), arrived: 0 }
    }

    /// Bytes that have arrived so far, whole frames or not.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// The next frame. Can be dropped and called again without losing a byte.
    ///
    /// # Errors
    /// [`FrameError`]; nothing more can be read then.
    pub async fn next(&mut self) -> Result<(Kind, Bytes), FrameError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            self.buffer.reserve(PART_MAX + HEAD);
            match self.from.read_buf(&mut self.buffer).await? {
                0 => return Err(FrameError::Closed),
                count => self.arrived += count as u64,
            }
        }
    }

    fn take(&mut self) -> Result<Option<(Kind, Bytes)>, FrameError> {
        let Some((&head, _)) = self.buffer.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = Kind::ALL
            .get(head[4] as usize)
            .copied()
            .ok_or(FrameError::Malformed("a kind that this version doesn't know"))?;
        let body = length.checked_sub(1).ok_or(FrameError::Malformed("a length of zero"))?;
        if body > kind.body_max() {
            return Err(FrameError::Malformed("a length beyond the limit"));
        }
        if self.buffer.len() < HEAD + body {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        Ok(Some((kind, self.buffer.split_to(body).freeze())))
    }
}

/// Puts the parts of a large message together.
#[derive(Debug, Default)]
pub struct Assembly(BytesMut);

impl Assembly {
    /// Adds a part; returns the message with its last one.
    ///
    /// # Errors
    /// [`FrameError::Malformed`] where it becomes larger than a message can be.
    pub fn add(&mut self, part: &[u8], last: bool) -> Result<Option<Bytes>, FrameError> {
        if self.0.len() + part.len() > MESSAGE_MAX {
            return Err(FrameError::Malformed("a message beyond the limit"));
        }
        self.0.extend_from_slice(part);
        Ok(last.then(|| std::mem::take(&mut self.0).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(bytes: &[u8]) -> Result<Vec<(Kind, Bytes)>, FrameError> {
        let mut reader = Reader::new(bytes);
        let mut frames = Vec::new();
        loop {
            match reader.next().await {
                Ok(frame) => frames.push(frame),
                Err(FrameError::Closed) => return Ok(frames),
                Err(error) => return Err(error),
            }
        }
    }

    #[tokio::test]
    async fn frames_come_back_as_they_were_written() {
        let mut out = BytesMut::new();
        let large = vec![7; PART_MAX];
        write(Kind::Ping, b"", &mut out);
        write(Kind::Message, &large, &mut out);
        write(Kind::Refusal, b"no", &mut out);
        let frames = read_all(&out).await.unwrap();
        let expect = [(Kind::Ping, &b""[..]), (Kind::Message, &large), (Kind::Refusal, b"no")];
        assert_eq!(frames.len(), expect.len());
        for ((kind, body), (expect_kind, expect_body)) in frames.iter().zip(expect) {
            assert_eq!((*kind, body.as_ref()), (expect_kind, expect_body));
        }
    }

    #[tokio::test]
    async fn frames_that_cannot_be_are_refused_by_their_head() {
        let length = |n: usize| (n as u32).to_be_bytes();
        for (length, kind) in [
            (length(0), Kind::Ping as u8),
            (length(2), Kind::Ping as u8),
            (length(PART_MAX + 2), Kind::Message as u8),
            (length(HELLO_MAX + 2), Kind::Hello as u8),
            ([0xff; 4], Kind::Last as u8),
            (length(1), Kind::ALL.len() as u8),
        ] {
            let head = [&length[..], &[kind]].concat();
            let refused = read_all(&head).await;
            assert!(matches!(refused, Err(FrameError::Malformed(_))), "{head:?}: {refused:?}");
        }
    }

    #[test]
    fn a_message_ends_at_its_limit() {
        let mut assembly = Assembly::default();
        let part = vec![0; PART_MAX];
        for _ in 0..MESSAGE_MAX / PART_MAX {
            assert!(assembly.add(&part, false).unwrap().is_none());
        }
        assert!(assembly.add(b"x", true).is_err());
        let mut assembly = Assembly::default();
        assert!(assembly.add(b"ab", false).unwrap().is_none());
        assert_eq!(assembly.add(b"c", true).unwrap().unwrap(), Bytes::from_static(b"abc"));
        assert_eq!(assembly.add(b"d", true).unwrap().unwrap(), Bytes::from_static(b"d"));
    }
}
