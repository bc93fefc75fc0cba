//! Names of pieces, for fuzz targets.

use super::piece;
use crate::postgres::Lsn;
use crate::store::ObjectName;

/// What a name says.
pub(crate) fn piece_name(name: &ObjectName) -> Option<(u32, Option<(Lsn, Lsn)>)> {
    piece::parse_name(name).map(|(_, timeline, stretch)| (timeline, stretch))
}

/// A piece's name.
pub(crate) fn name_of(stream: &str, timeline: u32, (from, upto): (Lsn, Lsn)) -> ObjectName {
    piece::name_of(stream, timeline, from, upto)
}
