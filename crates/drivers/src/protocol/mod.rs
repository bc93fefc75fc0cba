//! What agent and launcher say to each other on `launcher.sock`: postcard in frames that begin
//! with their length (four bytes, little-endian).
//!
//! The agent sends [`Request`]s, the launcher answers with [`Event`]s. There are no request
//! numbers: every event names the resource and epoch it speaks of, and whoever lost one asks
//! [`Request::List`] and sees the present state. Every event that says an instance is gone
//! carries [`Evidence`].

mod event;
mod frame;
mod request;

pub use event::{
    Asked, Event, Evidence, Gone, InstanceView, Phase, Refusal, Status, TAIL_BYTES_MAX, Why,
};
pub use frame::{FRAME_BYTES_MAX, FrameError, FrameReader, encode_frame};
pub use request::{Request, Role};

/// Both sides say their version first; another one is refused.
pub const PROTOCOL_VERSION: u32 = 1;
