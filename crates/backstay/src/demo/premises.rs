//! Where a demo lives: one temporary directory, and addresses in a loopback network that it draws
//! by lot, so that two demos can run side by side.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::error::{DemoError, system};
use super::relay::{Direction, Protocol, Route};

/// The nodes.
pub(super) const NODES: [&str; 3] = ["a", "b", "c"];
/// Links of each node.
pub(super) const LINKS: usize = 2;
/// Ports of every node, on its own addresses.
pub(super) const PEER_PORT: u16 = 7400;
/// See [`PEER_PORT`].
pub(super) const HEARTBEAT_PORT: u16 = 7401;
/// See [`PEER_PORT`].
pub(super) const API_PORT: u16 = 7402;
/// Where each order server listens, on its node's first address.
pub(super) const ORDERS_PORT: u16 = 7500;
/// Where the store listens.
pub(super) const STORE_PORT: u16 = 7501;
/// The run directory of a node, in the node's own.
pub(super) const RUN: &str = "r";
/// Networks, and names for the directory, tried before giving up.
const DRAWS_MAX: u32 = 32;
/// Longest name of a directory for temporary files below which the sockets of instances fit; past
/// it [`SHORT`] is taken. All that we put below it is short for the same reason.
const BASE_BYTES_MAX: usize = 15;
const SHORT: &str = "/tmp";

/// Directory and network of one demo.
#[derive(Debug, Clone)]
pub(super) struct Premises {
    dir: PathBuf,
    network: [u8; 2],
}

impl Premises {
    /// Makes the directory and draws a network in which all addresses are free.
    ///
    /// # Errors
    /// [`DemoError::System`] where neither is to be had.
    pub(super) fn draw() -> Result<Premises, DemoError> {
        let lot = || RandomState::new().hash_one(std::process::id());
        let network = free_network(lot)?;
        let dir = make_dir(&base(std::env::temp_dir()), lot)?;
        Ok(Premises { dir, network })
    }

    /// A network of a test's own choice; nothing is made or bound.
    #[cfg(test)]
    pub(super) fn for_test(dir: &str, network: [u8; 2]) -> Premises {
        Premises { dir: dir.into(), network }
    }

    /// The directory.
    #[must_use]
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file in the directory.
    #[must_use]
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The directory of one node.
    #[must_use]
    pub(super) fn node_dir(&self, node: usize) -> PathBuf {
        self.dir.join(NODES[node])
    }

    /// The address of a node on a link.
    #[must_use]
    pub(super) fn link(&self, node: usize, link: usize) -> IpAddr {
        address(self.network, host(node, link))
    }

    /// Where a node's order server listens.
    #[must_use]
    pub(super) fn orders(&self, node: usize) -> SocketAddr {
        (self.link(node, 0), ORDERS_PORT).into()
    }

    /// Where a node's API answers.
    #[must_use]
    pub(super) fn api(&self, node: usize) -> SocketAddr {
        (self.link(node, 0), API_PORT).into()
    }

    /// Where the store listens.
    #[must_use]
    pub(super) fn store(&self) -> SocketAddr {
        (address(self.network, STORE_HOST), STORE_PORT).into()
    }

    /// Where `direction.from` must send to reach `direction.to`.
    #[must_use]
    pub(super) fn relay(&self, direction: Direction) -> IpAddr {
        address(self.network, relay_host(direction))
    }

    /// Every relay: each ordered pair of nodes, each link, connections and heartbeats.
    #[must_use]
    pub(super) fn routes(&self) -> Vec<Route> {
        let protocols = [(Protocol::Tcp, PEER_PORT), (Protocol::Udp, HEARTBEAT_PORT)];
        let route = |direction: Direction, (protocol, port): (Protocol, u16)| Route {
            direction,
            protocol,
            listen: (self.relay(direction), port).into(),
            target: (self.link(direction.to, direction.link), port).into(),
        };
        directions().flat_map(|d| protocols.map(|p| route(d, p))).collect()
    }
}

/// Where temporary files go, unless sockets would have too long a path there.
fn base(temporary: PathBuf) -> PathBuf {
    let fits = temporary.as_os_str().len() <= BASE_BYTES_MAX;
    if fits { temporary } else { SHORT.into() }
}

/// Makes a directory of our own whose name nobody has yet.
fn make_dir(base: &Path, lot: impl Fn() -> u64) -> Result<PathBuf, DemoError> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
    for _ in 0..DRAWS_MAX {
        let dir = base.join(format!("backstay-{:05x}", lot() & 0xf_ffff));
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => last = error,
            Err(error) => {
                return Err(system(format!("make the directory {}", dir.display()))(error));
            }
        }
    }
    Err(system(format!("make a directory in {}", base.display()))(last))
}

/// Every ordered pair of nodes, on each link.
pub(super) fn directions() -> impl Iterator<Item = Direction> {
    let nodes = 0..NODES.len();
    let pairs = nodes.clone().flat_map(move |from| nodes.clone().map(move |to| (from, to)));
    pairs
        .filter(|(from, to)| from != to)
        .flat_map(|(from, to)| (0..LINKS).map(move |link| Direction { from, to, link }))
}

const STORE_HOST: u8 = 9;

/// Hosts 1 to 3 on the first link, 11 to 13 on the second.
fn host(node: usize, link: usize) -> u8 {
    (link * 10 + node + 1) as u8
}

/// Hosts from 100 on: the sender in the tens, the receiver in the ones, the second link 50 on.
fn relay_host(Direction { from, to, link }: Direction) -> u8 {
    (100 + link * 50 + from * 10 + to) as u8
}

fn address([second, third]: [u8; 2], host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, second, third, host))
}

/// Draws networks below 127.0.0.0/8 until one is free, leaving the well-known 127.0 and 127.1.
fn free_network(lot: impl Fn() -> u64) -> Result<[u8; 2], DemoError> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for _ in 0..DRAWS_MAX {
        let [second, third, ..] = lot().to_le_bytes();
        let network = [second.clamp(2, 254), third];
        match is_free(network) {
            Ok(()) => return Ok(network),
            Err(error) => last = error,
        }
    }
    Err(system("find a free loopback network")(last))
}

/// Binds every address once and lets go of it again.
fn is_free(network: [u8; 2]) -> std::io::Result<()> {
    let nodes = (0..NODES.len()).flat_map(|n| (0..LINKS).map(move |l| host(n, l)));
    for host in nodes.chain(directions().map(relay_host)) {
        TcpListener::bind((address(network, host), PEER_PORT))?;
        UdpSocket::bind((address(network, host), HEARTBEAT_PORT))?;
    }
    for node in 0..NODES.len() {
        for port in [API_PORT, ORDERS_PORT] {
            TcpListener::bind((address(network, host(node, 0)), port))?;
        }
    }
    TcpListener::bind((address(network, STORE_HOST), STORE_PORT)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_address_is_used_once() {
        let premises = Premises::for_test("/tmp/x", [77, 7]);
        let routes = premises.routes();
        assert_eq!(routes.len(), 24);
        let listen: BTreeSet<_> = routes.iter().map(|r| (r.protocol, r.listen)).collect();
        let targets: BTreeSet<_> = routes.iter().map(|r| (r.protocol, r.target)).collect();
        assert_eq!(listen.len(), 24);
        // Each node is reached by two others: half as many targets as relays.
        assert_eq!(targets.len(), 12);
        assert!(listen.is_disjoint(&targets));
    }

    #[test]
    fn sockets_fit_below_whatever_is_set_for_temporary_files() {
        let deepest = tempfile::tempdir_in(SHORT).unwrap();
        assert_eq!(deepest.path().as_os_str().len(), BASE_BYTES_MAX);
        assert_eq!(base(deepest.path().into()), deepest.path());
        assert_eq!(base(deepest.path().join("x")), Path::new(SHORT));
        let dir = make_dir(deepest.path(), || 7).unwrap();
        drivers::run_dir::RunDir::new(dir.join(NODES[0]).join(RUN)).create().unwrap();
        // A name that is taken is not shared.
        assert!(make_dir(deepest.path(), || 7).is_err());
    }

    #[test]
    fn a_network_in_use_is_passed_over() {
        let taken = TcpListener::bind(("127.78.9.1", PEER_PORT)).unwrap();
        assert!(is_free([78, 9]).is_err());
        drop(taken);
        assert!(is_free([78, 9]).is_ok());
        let error = free_network(|| u64::MAX).map(|network| network[0]);
        assert_eq!(error.unwrap(), 254);
    }
}
