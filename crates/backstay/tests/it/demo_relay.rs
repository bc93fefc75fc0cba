//! The demo's relays on real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use backstay::demo::relay::{Direction, Protocol, ROUTES_MAX, Relays, Route};

use crate::demo_rig::{free_address, until};

const THERE: Direction = Direction { from: 0, to: 1, link: 0 };
const PATIENCE: Duration = Duration::from_secs(20);

fn relay(protocol: Protocol, target: SocketAddr) -> (Relays, SocketAddr) {
    let listen = free_address();
    let relays = Relays::start(&[Route { direction: THERE, protocol, listen, target }]).unwrap();
    (relays, listen)
}

#[test]
fn datagrams_are_carried_both_ways_and_vanish_while_closed() {
    let target = UdpSocket::bind("127.0.0.1:0").unwrap();
    target.set_read_timeout(Some(PATIENCE)).unwrap();
    let (relays, listen) = relay(Protocol::Udp, target.local_addr().unwrap());
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 16];
    sender.send_to(b"one", listen).unwrap();
    let (length, via) = target.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], via), (&b"one"[..], listen));
    target.send_to(b"answer", via).unwrap();
    assert_eq!(sender.recv(&mut buffer).unwrap(), 6);
    relays.gates().close(THERE);
    sender.send_to(b"two", listen).unwrap();
    until("the loss", || (relays.gates().dropped() == 1).then_some(()));
    relays.gates().open_all();
    sender.send_to(b"three", listen).unwrap();
    let length = target.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"three");
    relays.gates().close(THERE.reversed());
    target.send_to(b"answer", via).unwrap();
    until("the loss", || (relays.gates().dropped() == 2).then_some(()));
}

#[test]
fn bytes_wait_while_their_direction_is_closed_and_arrive_afterwards() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let (relays, listen) = relay(Protocol::Tcp, target.local_addr().unwrap());
    let mut near = TcpStream::connect(listen).unwrap();
    let (mut far, _) = target.accept().unwrap();
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut buffer = [0; 5];
    near.write_all(b"hello").unwrap();
    far.read_exact(&mut buffer).unwrap();
    relays.gates().close(THERE);
    near.write_all(b"there").unwrap();
    // The way back is open: what comes along it shows that the relay is at work.
    far.write_all(b"begin").unwrap();
    near.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"begin");
    far.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert_eq!(far.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    relays.gates().open_all();
    far.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"there");
    drop(near);
    assert_eq!(far.read(&mut buffer).unwrap(), 0);
}

#[test]
fn a_target_that_is_gone_ends_the_connection() {
    let (_relays, listen) = relay(Protocol::Tcp, free_address());
    let mut near = TcpStream::connect(listen).unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    let ended = near.read(&mut [0; 1]);
    assert!(ended.as_ref().is_ok_and(|n| *n == 0) || ended.is_err_and(|e| is_reset(&e)));
}

fn is_reset(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::ConnectionReset
}

#[test]
fn an_address_that_is_taken_and_too_many_routes_are_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (listen, target) = (taken.local_addr().unwrap(), free_address());
    let route = Route { direction: THERE, protocol: Protocol::Tcp, listen, target };
    assert_eq!(Relays::start(&[route]).err().unwrap().kind(), ErrorKind::AddrInUse);
    let many = vec![route; ROUTES_MAX + 1];
    assert_eq!(Relays::start(&many).err().unwrap().kind(), ErrorKind::InvalidInput);
}
