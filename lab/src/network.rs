//! Hosts as network namespaces, one bridge per link, and what is wrong with the cables.
//!
//! The bridges live in a namespace of their own, so that nothing of the machine's own network is
//! touched. A fault is a rule of nftables where frames pass from one port of a bridge to another:
//! it hits ARP and neighbour discovery as well as IP, and one direction alone where that is asked.

use std::fmt::Write as _;
use std::process::Command;

use crate::shell::{Done, feed, ip, run};
use crate::sweep::PREFIX;

/// Links of every host that is a node.
pub(crate) const LINKS: usize = 2;

/// What is wrong on the way from one host to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) from: String,
    pub(crate) to: String,
    /// On which link; on all where absent.
    pub(crate) link: Option<usize>,
    /// How many frames of a hundred are lost.
    pub(crate) lost_percent: u8,
    /// Heartbeats alone are lost, not what goes over TCP.
    pub(crate) heartbeats_only: bool,
}

impl Flaw {
    /// Nothing gets through, on any link.
    pub(crate) fn cut(from: &str, to: &str) -> Flaw {
        let (from, to) = (from.to_owned(), to.to_owned());
        Flaw { from, to, link: None, lost_percent: 100, heartbeats_only: false }
    }

    fn rules(&self, text: &mut String) {
        for link in (0..LINKS).filter(|link| self.link.is_none_or(|only| only == *link)) {
            let (from, to) = (port(&self.from, link), port(&self.to, link));
            let some = match self.lost_percent {
                100 => String::new(),
                percent => format!("numgen random mod 100 < {percent} "),
            };
            let what = if self.heartbeats_only { "udp dport 7401 " } else { "" };
            let way = format!("iifname {from} oifname {to}");
            // Writing to a String can't fail.
            _ = writeln!(text, "add rule bridge lab pass {way} {what}{some}drop");
        }
    }
}

/// The far end of a host's cable, at the bridge.
fn port(host: &str, link: usize) -> String {
    format!("{host}-{link}")
}

/// The namespaces of one lab. They go with the value.
#[derive(Debug)]
pub(crate) struct Network {
    id: String,
    hosts: Vec<String>,
    flaws: Vec<Flaw>,
}

impl Network {
    /// Lays the cables: hosts that are nodes have all links, others the first alone. Addresses
    /// are `10.77.<link>.<number>`, numbers in the order of the hosts, from 1.
    pub(crate) fn lay(nodes: &[&str], others: &[&str]) -> Done<Network> {
        let id = format!("{PREFIX}{}", std::process::id());
        let mut network = Network { id, hosts: Vec::new(), flaws: Vec::new() };
        let switch = network.namespace("switch");
        ip(&format!("netns add {switch}"))?;
        for link in 0..LINKS {
            ip(&format!("-n {switch} link add br{link} type bridge"))?;
            ip(&format!("-n {switch} link set br{link} up"))?;
        }
        for (number, host) in nodes.iter().chain(others).enumerate() {
            let links = if nodes.contains(host) { LINKS } else { 1 };
            network.add_host(host, number + 1, links)?;
        }
        network.apply()?;
        Ok(network)
    }

    fn add_host(&mut self, host: &str, number: usize, links: usize) -> Done {
        let (own, switch) = (self.namespace(host), self.namespace("switch"));
        ip(&format!("netns add {own}"))?;
        self.hosts.push(host.to_owned());
        ip(&format!("-n {own} link set lo up"))?;
        for link in 0..links {
            let (name, port) = (format!("eth{link}"), port(host, link));
            ip(&format!("-n {own} link add {name} type veth peer name {port} netns {switch}"))?;
            ip(&format!("-n {switch} link set {port} master br{link} up"))?;
            ip(&format!("-n {own} address add 10.77.{link}.{number}/24 dev {name}"))?;
            ip(&format!("-n {own} link set {name} up"))?;
        }
        Ok(())
    }

    /// The name of a host's namespace.
    pub(crate) fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.id)
    }

    /// A command that runs on a host. Nothing but the network differs from outside.
    pub(crate) fn on(&self, host: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace(host))).arg("--");
        command
    }

    /// Adds flaws to those that are there.
    pub(crate) fn add(&mut self, flaws: impl IntoIterator<Item = Flaw>) -> Done {
        self.flaws.extend(flaws);
        self.apply()
    }

    /// Nothing gets through between these groups of hosts, in either direction.
    pub(crate) fn part(&mut self, one: &[&str], other: &[&str]) -> Done {
        let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b)));
        let flaws = pairs.flat_map(|(a, b)| [Flaw::cut(a, b), Flaw::cut(b, a)]);
        let flaws: Vec<Flaw> = flaws.collect();
        self.add(flaws)
    }

    /// A host is cut off from all others, on every link.
    pub(crate) fn isolate(&mut self, host: &str) -> Done {
        let others: Vec<String> = self.hosts.iter().filter(|h| *h != host).cloned().collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        self.part(&[host], &others)
    }

    /// All cables are whole again.
    pub(crate) fn heal(&mut self) -> Done {
        self.flaws.clear();
        self.apply()
    }

    /// Frames that leave a host on a link are sent twice, so many of a hundred.
    pub(crate) fn duplicate(&self, host: &str, link: usize, percent: u8) -> Done {
        let text = format!(
            "add table netdev lab\n\
             add chain netdev lab twice{link} {{ type filter hook egress device eth{link} \
             priority 0; }}\n\
             add rule netdev lab twice{link} numgen random mod 100 < {percent} dup to eth{link}\n"
        );
        feed(self.on(host).args(["nft", "-f", "-"]), &text).map(drop)
    }

    /// How many frames have been dropped so far: proof that a flaw was felt.
    pub(crate) fn dropped(&self) -> Done<u64> {
        let text =
            run(self.on("switch").args(["nft", "list", "counter", "bridge", "lab", "lost"]))?;
        let words: Vec<&str> = text.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "packets").ok_or("no counter")?;
        words.get(at + 1).and_then(|n| n.parse().ok()).ok_or_else(|| "no number".to_owned())
    }

    /// All rules at once: either all hold or those of before.
    fn apply(&self) -> Done {
        let mut text = String::from(
            "add table bridge lab\nadd counter bridge lab lost\n\
             add chain bridge lab pass { type filter hook forward priority 0; policy accept; }\n\
             flush chain bridge lab pass\n",
        );
        for flaw in &self.flaws {
            flaw.rules(&mut text);
        }
        let text = text.replace("drop\n", "counter name lost drop\n");
        feed(self.on("switch").args(["nft", "-f", "-"]), &text).map(drop)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in self.hosts.iter().map(String::as_str).chain(["switch"]) {
            if let Err(error) = ip(&format!("netns del {}", self.namespace(host))) {
                eprintln!("a namespace stays: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flaw_is_a_rule_for_each_of_its_links() {
        let mut text = String::new();
        Flaw::cut("a", "b").rules(&mut text);
        assert_eq!(text.lines().count(), LINKS);
        assert!(text.contains("iifname a-1 oifname b-1 drop"), "{text}");
        let mut text = String::new();
        let flaw = Flaw { link: Some(1), lost_percent: 30, ..Flaw::cut("c", "a") };
        flaw.rules(&mut text);
        assert_eq!(
            text,
            "add rule bridge lab pass iifname c-1 oifname a-1 numgen random mod 100 < 30 drop\n"
        );
    }
}
