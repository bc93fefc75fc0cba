//! The keeper's readers, for fuzz targets.

use super::{netlink, talk};

/// Whether a line of the launcher is understood.
pub(crate) fn keeper_line(line: &[u8]) -> bool {
    serde_json::from_slice::<talk::Told>(line).is_ok()
}

/// How many addresses and interfaces a datagram of the kernel lists.
pub(crate) fn netlink(datagram: &[u8]) -> usize {
    let mut listed = 0;
    let _end = netlink::read_answers(datagram, 1, &mut |message| {
        listed += usize::from(message.address().is_some()) + usize::from(message.link().is_some());
    });
    listed
}
