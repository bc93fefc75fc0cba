//! What goes over the wire: ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861, RFC 4862),
//! as whole Ethernet frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest frame that is made or looked at.
pub(super) const FRAME_BYTES_MAX: usize = 128;

const BROADCAST: [u8; 6] = [0xff; 6];
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ETHERNET: usize = 14;
const IPV6_HEADER: usize = 40;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;
/// Option: the link-layer address of the target.
const TARGET_ADDRESS: u8 = 2;
/// The hop limit that says that no router has passed it on.
const HOP_LIMIT: u8 = 255;

/// The frames that ask whether somebody has the address.
pub(super) fn probe(ip: IpAddr, hardware: [u8; 6]) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => arp(1, hardware, Ipv4Addr::UNSPECIFIED, [0; 6], ip),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let group = Ipv6Addr::new(
                0xff02,
                0,
                0,
                0,
                0,
                1,
                0xff00 | u16::from(octets[13]),
                u16::from_be_bytes([octets[14], octets[15]]),
            );
            let mut body = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            body.extend(octets);
            neighbour(hardware, Ipv6Addr::UNSPECIFIED, group, body)
        }
    }
}

/// The frames that tell everybody who has the address. Some listeners heed only requests, some
/// only answers.
pub(super) fn announcement(ip: IpAddr, hardware: [u8; 6]) -> Vec<Vec<u8>> {
    match ip {
        IpAddr::V4(ip) => {
            vec![arp(1, hardware, ip, [0; 6], ip), arp(2, hardware, ip, BROADCAST, ip)]
        }
        IpAddr::V6(ip) => {
            let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            let mut body = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
            body.extend(ip.octets());
            body.extend([TARGET_ADDRESS, 1]);
            body.extend(hardware);
            vec![neighbour(hardware, ip, everybody, body)]
        }
    }
}

/// Whether a frame shows that somebody else uses the address, or is about to; their hardware
/// address then.
pub(super) fn claimant(frame: &[u8], ip: IpAddr, own: [u8; 6]) -> Option<[u8; 6]> {
    let sender: [u8; 6] = frame.get(6..12)?.try_into().ok()?;
    let kind = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let body = frame.get(ETHERNET..)?;
    let claimant = match (ip, kind) {
        (IpAddr::V4(ip), ARP) => arp_claimant(body, ip)?,
        (IpAddr::V6(ip), IPV6) => neighbour_claimant(body, ip).then_some(sender)?,
        _ => return None,
    };
    (claimant != own && sender != own).then_some(claimant)
}

fn arp(op: u16, sender: [u8; 6], from: Ipv4Addr, target: [u8; 6], about: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_BYTES_MAX);
    frame.extend(BROADCAST);
    frame.extend(sender);
    frame.extend(ARP.to_be_bytes());
    // Ethernet, IPv4, and the lengths of their addresses.
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(op.to_be_bytes());
    frame.extend(sender);
    frame.extend(from.octets());
    frame.extend(target);
    frame.extend(about.octets());
    frame
}

/// A sender that has the address, or probes for it as we do.
fn arp_claimant(body: &[u8], ip: Ipv4Addr) -> Option<[u8; 6]> {
    if body.get(0..6)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let sender: [u8; 6] = body.get(8..14)?.try_into().ok()?;
    let (from, about) = (body.get(14..18)?, body.get(24..28)?);
    let uses = from == ip.octets();
    let probes = from == [0; 4] && about == ip.octets();
    (uses || probes).then_some(sender)
}

fn neighbour(hardware: [u8; 6], from: Ipv6Addr, to: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let octets = to.octets();
    let group = [0x33, 0x33, octets[12], octets[13], octets[14], octets[15]];
    let sum = checksum(from, to, &body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = Vec::with_capacity(FRAME_BYTES_MAX);
    frame.extend(group);
    frame.extend(hardware);
    frame.extend(IPV6.to_be_bytes());
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((body.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(body);
    frame
}

/// An advertisement for the address, or a solicitation by somebody who is about to use it.
fn neighbour_claimant(packet: &[u8], ip: Ipv6Addr) -> bool {
    let claims = || {
        let (next, hops) = (*packet.get(6)?, *packet.get(7)?);
        let from: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
        let (kind, code) = (*packet.get(IPV6_HEADER)?, *packet.get(IPV6_HEADER + 1)?);
        let target = packet.get(IPV6_HEADER + 8..IPV6_HEADER + 24)?;
        let detects = kind == SOLICITATION && from == [0; 16];
        let genuine = next == ICMPV6 && hops == HOP_LIMIT && code == 0;
        Some(genuine && target == ip.octets() && (kind == ADVERTISEMENT || detects))
    };
    claims().unwrap_or(false)
}

/// The checksum of ICMPv6, with its pseudo-header (RFC 8200, 8.1).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, body: &[u8]) -> u16 {
    let tail = [0, 0, 0, ICMPV6];
    let length = (body.len() as u32).to_be_bytes();
    let parts: [&[u8]; 5] = [&from.octets(), &to.octets(), &length, &tail, body];
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 =
        words.map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| (*b).into())).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn addresses() -> [IpAddr; 2] {
        ["10.1.0.100".parse().unwrap(), "fd00::64".parse().unwrap()]
    }

    #[test]
    fn who_announces_or_probes_for_an_address_claims_it_and_nobody_else() {
        for ip in addresses() {
            let another: IpAddr =
                if ip.is_ipv4() { "10.1.0.101" } else { "fd00::65" }.parse().unwrap();
            for frame in announcement(ip, OTHER).iter().chain([&probe(ip, OTHER)]) {
                assert!(frame.len() <= FRAME_BYTES_MAX);
                assert_eq!(claimant(frame, ip, OWN), Some(OTHER), "{ip}");
                assert_eq!(claimant(frame, ip, OTHER), None, "one's own frames claim nothing");
                assert_eq!(claimant(frame, another, OWN), None, "another address");
                for len in 0..frame.len() - 1 {
                    let cut = claimant(&frame[..len], ip, OWN);
                    assert!(cut.is_none() || len > 40, "cut at {len}");
                }
            }
        }
    }

    #[test]
    fn who_asks_for_an_address_does_not_claim_it() {
        let [ip, _] = addresses();
        let IpAddr::V4(v4) = ip else { panic!() };
        let ask = arp(1, OTHER, Ipv4Addr::new(10, 1, 0, 9), [0; 6], v4);
        assert_eq!(claimant(&ask, ip, OWN), None);
    }

    #[test]
    fn the_checksum_covers_the_pseudo_header() {
        for ip in addresses().into_iter().filter(IpAddr::is_ipv6) {
            for frame in announcement(ip, OWN).iter().chain([&probe(ip, OWN)]) {
                let from: [u8; 16] = frame[22..38].try_into().unwrap();
                let to: [u8; 16] = frame[38..54].try_into().unwrap();
                // The sum over a body that holds its checksum is zero.
                assert_eq!(checksum(from.into(), to.into(), &frame[54..]), 0);
            }
        }
    }
}
