//! Names of pieces, a spool's frames and a machine's memory of a log, for fuzz targets.

use super::spool::{Frame, frame_at, frame_bytes};
use super::{memory, piece};
use crate::keys::KeyRing;
use crate::postgres::Lsn;
use crate::seal::{Kind, seal_object};
use crate::store::ObjectName;
use std::io;

/// What a name says.
pub(crate) fn piece_name(name: &ObjectName) -> Option<(u32, Option<(Lsn, Lsn)>)> {
    piece::parse_name(name).map(|(_, timeline, stretch)| (timeline, stretch))
}

/// A piece's name.
pub(crate) fn name_of(stream: &str, timeline: u32, (from, upto): (Lsn, Lsn)) -> ObjectName {
    piece::name_of(stream, timeline, from, upto)
}

/// The frames of a half of a spool that holds these bytes, and zeros behind them: timeline,
/// start and length of each.
pub(crate) fn spool_frames(ring: &KeyRing, stream: &str, half: &[u8]) -> Vec<(u32, Lsn, usize)> {
    let mut read = |bytes: &mut [u8], at: u64| -> io::Result<()> {
        let from = half.len().min(usize::try_from(at).unwrap_or(usize::MAX));
        let there = (half.len() - from).min(bytes.len());
        bytes[..there].copy_from_slice(&half[from..from + there]);
        bytes[there..].fill(0);
        Ok(())
    };
    let (mut at, mut frames, mut round) = (0, Vec::new(), None);
    while let Ok(Some((frame, bytes))) = frame_at(ring, stream, at, &mut read) {
        if *round.get_or_insert(frame.round) != frame.round {
            break;
        }
        at += frame_bytes(frame.length);
        frames.push((frame.timeline, frame.start, bytes.len()));
    }
    frames
}

/// A frame whose seal is right, as it is written.
pub(crate) fn spool_frame(
    ring: &KeyRing,
    stream: &str,
    (round, timeline): (u64, u32),
    (start, end): (Lsn, Lsn),
    bytes: &[u8],
) -> Vec<u8> {
    let name = piece::name_of(stream, timeline, start, end);
    let object = seal_object(ring, Kind::Spool, &name, bytes);
    let length = object.len() as u32;
    let header = Frame { round, timeline, start, end, length }.bytes();
    let mut frame = [&header[..], &object].concat();
    frame.resize(frame_bytes(length) as usize, 0);
    frame
}

/// What a machine remembers of a log, and the same as it writes it.
pub(crate) fn log_memory(text: &str) -> Option<((u32, Lsn, Lsn), String)> {
    let (timeline, from, upto) = memory::parse(text)?;
    Some(((timeline, from, upto), format!("{timeline} {from} {upto}\n")))
}
