//! Everything that is refused or dropped is counted, by reason, here.
//!
//! The reasons are closed enums: each counter exists from the start, costs one atomic addition,
//! and no attacker can make a new label.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$each])* $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// The label in `/metrics`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

reasons! {
    /// Why a datagram was dropped.
    Dropped {
        /// Not ours at all: too short, or other first bytes.
        Garbage = "garbage",
        /// Larger than any datagram of ours.
        Oversized = "oversized",
        /// A version of the format that this node doesn't know.
        Version = "version",
        /// Of another cluster.
        Cluster = "cluster",
        /// From a replica that this node has no key for.
        UnknownSender = "unknown_sender",
        /// Sealed before its sender's last restart.
        OldBoot = "old_boot",
        /// Received before, or too far behind what was received.
        Replay = "replay",
        /// Not sealed by whom it says, or damaged.
        BadTag = "bad_tag",
    }
}

reasons! {
    /// A TCP port of ours.
    Port {
        /// Node to node.
        Peer = "peer",
        /// HTTPS.
        Api = "api",
    }
}

reasons! {
    /// Why a connection was refused.
    Refused {
        /// It spoke no TLS, or broke it.
        Garbage = "garbage",
        /// It took too long to say who it is.
        Timeout = "timeout",
        /// Too many connections, from its address or in all.
        TooMany = "too_many",
        /// It showed no certificate where one is needed.
        NoCertificate = "no_certificate",
        /// Its certificate is none of ours in form.
        Malformed = "malformed",
        /// Its certificate is of another authority.
        Authority = "authority",
        /// Its certificate is of another cluster.
        Cluster = "cluster",
        /// Its certificate's role has no business on this port.
        Role = "role",
        /// Its certificate has run out.
        Expired = "expired",
        /// Its certificate begins in the future.
        NotYet = "not_yet",
        /// It is no replica that the cluster knows under this name.
        Replica = "replica",
        /// Its first frame is not the one that belongs there.
        Hello = "hello",
        /// It is of another generation of the cluster.
        Generation = "generation",
    }
}

reasons! {
    /// Why a message to a peer was not delivered to its queue, or left it again.
    Undelivered {
        /// A newer one needed its place.
        Displaced = "displaced",
        /// The queue for large messages is full.
        Full = "full",
        /// There is no such peer.
        UnknownPeer = "unknown_peer",
        /// Larger than any message may be.
        TooLarge = "too_large",
        /// The connection broke while it was being written.
        Broken = "broken",
    }
}

reasons! {
    /// Why a call of the API was denied.
    Denied {
        /// It needs a certificate and none was shown.
        Anonymous = "anonymous",
        /// The caller's role may not make it.
        Role = "role",
        /// The caller's certificate has run out.
        Expired = "expired",
        /// The caller's name is refused.
        Revoked = "revoked",
        /// The authority of the caller's certificate is believed no more.
        Authority = "authority",
        /// There is no such call.
        NoRoute = "no_route",
        /// The body is larger than the call takes.
        TooLarge = "too_large",
        /// The request can't be read.
        Malformed = "malformed",
        /// It took too long.
        Timeout = "timeout",
    }
}

/// Whether an event of this count is worth a line in the log: the first few and then ever fewer,
/// so that whoever knocks without end does not fill the disk. The counters tell the rest.
#[must_use]
pub const fn worth_a_line(count: u64) -> bool {
    count < 10 || count.is_power_of_two()
}

type Labels<const N: usize> = Family<[(&'static str, &'static str); N], Counter>;

/// The counters. Clones share them.
#[derive(Debug, Clone)]
pub struct Counters {
    datagrams: Labels<1>,
    dropped: Vec<Counter>,
    connections: Labels<2>,
    messages: Labels<1>,
    calls: Labels<1>,
}

impl Default for Counters {
    fn default() -> Self {
        let datagrams: Labels<1> = Family::default();
        let dropped = Dropped::ALL
            .iter()
            .map(|reason| datagrams.get_or_create_owned(&[("reason", reason.as_str())]))
            .collect();
        let counters = Counters {
            datagrams,
            dropped,
            connections: Family::default(),
            messages: Family::default(),
            calls: Family::default(),
        };
        for port in Port::ALL {
            for reason in Refused::ALL {
                counters.connection_counter(*port, *reason);
            }
        }
        Undelivered::ALL.iter().for_each(|reason| _ = counters.message_counter(*reason));
        Denied::ALL.iter().for_each(|reason| _ = counters.call_counter(*reason));
        counters
    }
}

impl Counters {
    /// Adds all counters to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "datagrams_dropped",
            "Datagrams that were received and dropped",
            self.datagrams.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections that were refused",
            self.connections.clone(),
        );
        registry.register(
            "peer_messages_undelivered",
            "Messages to peers that were not delivered",
            self.messages.clone(),
        );
        registry.register("calls_denied", "Calls of the API denied", self.calls.clone());
    }

    /// Counts a dropped datagram.
    pub fn datagram_dropped(&self, reason: Dropped) {
        self.dropped[reason as usize].inc();
    }

    /// Datagrams dropped for this reason so far.
    #[must_use]
    pub fn datagrams_dropped(&self, reason: Dropped) -> u64 {
        self.dropped[reason as usize].get()
    }

    /// Counts a refused connection; returns how many there are now.
    pub fn connection_refused(&self, port: Port, reason: Refused) -> u64 {
        self.connection_counter(port, reason).inc() + 1
    }

    /// Connections refused for this reason so far.
    #[must_use]
    pub fn connections_refused(&self, port: Port, reason: Refused) -> u64 {
        self.connection_counter(port, reason).get()
    }

    /// Counts a message that was not delivered.
    pub fn message_undelivered(&self, reason: Undelivered) {
        self.message_counter(reason).inc();
    }

    /// Messages not delivered for this reason so far.
    #[must_use]
    pub fn messages_undelivered(&self, reason: Undelivered) -> u64 {
        self.message_counter(reason).get()
    }

    /// Counts a denied call; returns how many there are now.
    pub fn call_denied(&self, reason: Denied) -> u64 {
        self.call_counter(reason).inc() + 1
    }

    /// Calls denied for this reason so far.
    #[must_use]
    pub fn calls_denied(&self, reason: Denied) -> u64 {
        self.call_counter(reason).get()
    }

    fn connection_counter(&self, port: Port, reason: Refused) -> Counter {
        self.connections
            .get_or_create_owned(&[("port", port.as_str()), ("reason", reason.as_str())])
    }

    fn message_counter(&self, reason: Undelivered) -> Counter {
        self.messages.get_or_create_owned(&[("reason", reason.as_str())])
    }

    fn call_counter(&self, reason: Denied) -> Counter {
        self.calls.get_or_create_owned(&[("reason", reason.as_str())])
    }
}
