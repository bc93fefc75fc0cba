//! Heartbeats that somebody on the network keeps, and says again: whole IP packets, as they came.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, sendto,
    socket_with,
};

use crate::shell::Done;

/// Where heartbeats go.
const PORT: u16 = 7401;
/// Pause between two packets: about what three nodes send.
const PAUSE: Duration = Duration::from_millis(2);
/// Longest packet.
const LENGTH_MAX: usize = 2_048;

/// Where a heartbeat's sender stands, from the header of UDP on, and how often that has started.
const SENDER: usize = 16;
const START: usize = 24;

/// Where a heartbeat goes, and its port; nothing for any other packet.
fn target(packet: &[u8]) -> Option<Ipv4Addr> {
    let header = usize::from(packet.first()? & 15) * 4;
    let port = packet.get(header + 2..header + 4)?;
    let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    (u16::from_be_bytes([port[0], port[1]]) == PORT).then(|| Ipv4Addr::from(to))
}

/// Keeps every heartbeat that this host gets, until it is killed.
pub(crate) fn capture(file: &Path) -> Done {
    let failed = |e: rustix::io::Errno| e.to_string();
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    let socket = socket_with(family, SocketType::RAW, flags, Some(ipproto::UDP)).map_err(failed)?;
    let mut out = BufWriter::new(File::create(file).map_err(|e| e.to_string())?);
    let mut buffer = [0u8; LENGTH_MAX];
    loop {
        let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty()).map_err(failed)?;
        let packet = &buffer[..length];
        if target(packet).is_some() {
            let length = (packet.len() as u16).to_be_bytes();
            // Whole ones reach the file, whenever it is killed.
            let whole = [&length, packet].concat();
            out.write_all(&whole).and_then(|()| out.flush()).map_err(|e| e.to_string())?;
        }
    }
}

fn packets(file: &Path) -> Done<Vec<Vec<u8>>> {
    let failed = |e: std::io::Error| e.to_string();
    let mut file = BufReader::new(File::open(file).map_err(failed)?);
    let (mut all, mut length) = (Vec::new(), [0; 2]);
    while file.read_exact(&mut length).is_ok() {
        let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
        if file.read_exact(&mut packet).is_err() {
            break;
        }
        all.push(packet);
    }
    Ok(all)
}

/// Takes the checksum out: between hosts of one kernel nobody had worked it out yet, and a packet
/// without one is as good.
fn without_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    let header = packet.first().map_or(0, |first| usize::from(first & 15) * 4);
    if let Some(checksum) = packet.get_mut(header + 6..header + 8) {
        checksum.fill(0);
    }
    packet
}

/// Says all of them again, over and over, until it is killed. Their senders stand in them.
pub(crate) fn replay(file: &Path) -> Done {
    say(packets(file)?)
}

/// How many of those that were kept are of a replica.
pub(crate) fn count_of(file: &Path, from: u64) -> Done<usize> {
    let own =
        |packet: &mut Vec<u8>| number(packet, SENDER).is_some_and(|s| *s == from.to_be_bytes());
    Ok(packets(file)?.into_iter().filter_map(|mut packet| own(&mut packet).then_some(())).count())
}

/// One of the numbers in a heartbeat's header, behind the header of UDP.
fn number(packet: &mut [u8], at: usize) -> Option<&mut [u8]> {
    let header = usize::from(packet.first()? & 15) * 4;
    packet.get_mut(header + at..header + at + 8)
}

/// Says those of a replica over and over, until it is killed, under the name of another, as of a
/// start that is later than any: those of earlier ones are dropped before their tag is looked at.
pub(crate) fn forge(file: &Path, from: u64, name: u64) -> Done {
    let rename = |mut packet: Vec<u8>| {
        let sender = number(&mut packet, SENDER)?;
        let own = *sender == from.to_be_bytes();
        sender.copy_from_slice(&name.to_be_bytes());
        number(&mut packet, START)?.fill(0xff);
        own.then_some(packet)
    };
    say(packets(file)?.into_iter().filter_map(rename).collect())
}

fn say(packets: Vec<Vec<u8>>) -> Done {
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    let socket = socket_with(family, SocketType::RAW, flags, Some(ipproto::RAW));
    let socket = socket.map_err(|e| e.to_string())?;
    let all: Vec<_> = packets.into_iter().map(without_checksum).collect();
    if all.is_empty() {
        return Err("nothing was captured".into());
    }
    loop {
        for packet in &all {
            let Some(to) = target(packet) else { continue };
            // The second link is not reachable from where it is said again: only the first counts.
            _ = sendto(&socket, packet, SendFlags::empty(), &SocketAddrV4::new(to, 0));
            std::thread::park_timeout(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_are_told_from_other_packets() {
        let mut packet = vec![0x45; 1];
        packet.resize(40, 0);
        packet[16..20].copy_from_slice(&[10, 77, 0, 2]);
        packet[22..24].copy_from_slice(&PORT.to_be_bytes());
        assert_eq!(target(&packet), Some(Ipv4Addr::new(10, 77, 0, 2)));
        packet[26] = 7;
        assert_eq!(without_checksum(packet.clone())[26..28], [0, 0]);
        packet[22] ^= 1;
        assert_eq!(target(&packet), None);
        assert_eq!(target(&[0x45]), None);
    }
}
