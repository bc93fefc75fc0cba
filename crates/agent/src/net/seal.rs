//! Sealed datagrams: authenticated encryption between two replicas, without a handshake, so that
//! a node that just started is heard at once.
//!
//! ```text
//! 0   "BS"                    16  start number, big-endian u64 ┐ the sender's start (`Boot`)
//! 2   version (1)             24  random, u64                  ┘
//! 3   link                    32  counter, big-endian u64
//! 4   cluster id, 4 bytes     40  sealed payload, then 16 bytes of tag
//! 8   sender, big-endian u64
//! ```
//!
//! Keys. Two replicas share `x = X25519(mine, yours)`. One direction's key is
//! `blake3::derive_key(context, x, cluster id, sender, receiver)`; the key of one start is
//! `blake3::keyed_hash(that, start, random)`. AES-256-GCM; the nonce is link (4 bytes) and counter
//! (8 bytes). A counter is never used twice: it only grows, and the next start has another key.
//! The whole header is authenticated. This module never interprets a payload.
//!
//! Freshness. A datagram is accepted once. What was sealed before a *sender's* restart is refused
//! as soon as one of its new datagrams arrived. A *receiver* that restarts has no memory: until
//! the sender's next datagram, an attacker who recorded old ones can show them. Heartbeats bear
//! that, because an acknowledgement names the round it answers (DESIGN.md, rule 3).

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::boot::Boot;
use super::counters::{Counters, Dropped};
use super::window::Window;
use crate::identity::{ClusterId, DatagramKey, DatagramPublicKey};

/// Largest payload in bytes: with header, tag, UDP and IPv6 it fills 1,496 of the 1,500 bytes
/// that an Ethernet frame carries.
pub const PAYLOAD_MAX: usize = 1_392;
/// Bytes in front of the payload.
pub const HEADER: usize = 40;
/// Bytes behind it.
pub const TAG: usize = 16;
/// Largest datagram in bytes.
pub const DATAGRAM_MAX: usize = HEADER + PAYLOAD_MAX + TAG;
/// Links are numbered below this.
pub const LINKS_MAX: usize = model::spec::LINKS_MAX;

const MAGIC: [u8; 2] = *b"BS";
const VERSION: u8 = 1;

/// The other replicas and their keys.
pub type Keys = BTreeMap<u64, DatagramPublicKey>;

/// Why a payload was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No key for this replica.
    #[error("there is no datagram key for replica #{0}; it has to join again")]
    UnknownReceiver(u64),
    /// More than [`PAYLOAD_MAX`] bytes.
    #[error("a datagram carries at most {PAYLOAD_MAX} bytes, not {0}")]
    TooLarge(usize),
    /// A link number of [`LINKS_MAX`] or more.
    #[error("links are numbered below {LINKS_MAX}, and {0} is not")]
    Link(u8),
}

/// Who this node is, for both directions.
struct Me {
    cluster: ClusterId,
    replica: u64,
}

impl Me {
    /// The key of one direction; `shared` is the secret with the other side.
    fn direction(&self, shared: &[u8; 32], from: u64, to: u64) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key("backstay datagram direction, version 1");
        hasher.update(shared).update(&self.cluster.0);
        hasher.update(&from.to_be_bytes()).update(&to.to_be_bytes());
        Zeroizing::new(*hasher.finalize().as_bytes())
    }
}

fn boot_key(direction: &[u8; 32], boot: Boot) -> LessSafeKey {
    let mut hasher = blake3::Hasher::new_keyed(direction);
    hasher.update(&boot.start.to_be_bytes()).update(&boot.nonce.to_be_bytes());
    let key = Zeroizing::new(*hasher.finalize().as_bytes());
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice()).expect("32 bytes are a key"))
}

fn nonce(link: u8, counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[3] = link;
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

struct Receiver {
    public: DatagramPublicKey,
    key: LessSafeKey,
    /// The last counter used, per link.
    counters: [u64; LINKS_MAX],
}

/// Seals what this node sends. Each draws random bytes of its own, so that no two ever use one
/// key; receivers hear the one that they order last, so a node has one at a time.
pub struct Sealer {
    me: Me,
    boot: Boot,
    receivers: BTreeMap<u64, Receiver>,
}

impl Sealer {
    /// A sealer of replica `replica` for the start of this number.
    #[must_use]
    pub fn new(cluster: ClusterId, replica: u64, start: u64) -> Sealer {
        let boot = Boot::new(start);
        Sealer { me: Me { cluster, replica }, boot, receivers: BTreeMap::new() }
    }

    /// Sets whom it can send to. One whose key stays keeps its counters. Returns those whose key
    /// is no usable one; they are left out.
    pub fn set_peers(&mut self, mine: &DatagramKey, keys: &Keys) -> Vec<u64> {
        let mut unusable = Vec::new();
        self.receivers.retain(|replica, known| keys.get(replica) == Some(&known.public));
        for (&replica, public) in keys {
            if replica == self.me.replica || self.receivers.contains_key(&replica) {
                continue;
            }
            let Some(shared) = mine.shared_with(public) else {
                unusable.push(replica);
                continue;
            };
            let direction = self.me.direction(&shared, self.me.replica, replica);
            let key = boot_key(&direction, self.boot);
            let counters = [0; LINKS_MAX];
            self.receivers.insert(replica, Receiver { public: *public, key, counters });
        }
        unusable
    }

    /// Seals a payload for one replica over one link into `out`, which it replaces.
    ///
    /// # Errors
    /// [`SealError`]; `out` is empty then.
    pub fn seal(
        &mut self,
        to: u64,
        link: u8,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        out.clear();
        if payload.len() > PAYLOAD_MAX {
            return Err(SealError::TooLarge(payload.len()));
        }
        let receiver = self.receivers.get_mut(&to).ok_or(SealError::UnknownReceiver(to))?;
        let counter = receiver.counters.get_mut(link as usize).ok_or(SealError::Link(link))?;
        // 2^64 datagrams take longer than any machine lives; a repeat would break the cipher.
        *counter = counter.checked_add(1).expect("a send counter does not run out");
        out.reserve(DATAGRAM_MAX);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, link]);
        out.extend_from_slice(&self.me.cluster.0[..4]);
        out.extend_from_slice(&self.me.replica.to_be_bytes());
        out.extend_from_slice(&self.boot.start.to_be_bytes());
        out.extend_from_slice(&self.boot.nonce.to_be_bytes());
        out.extend_from_slice(&counter.to_be_bytes());
        out.extend_from_slice(payload);
        let (header, body) = out.split_at_mut(HEADER);
        let tag = receiver
            .key
            .seal_in_place_separate_tag(nonce(link, *counter), Aad::from(&*header), body)
            .expect("a payload within its limit can be sealed");
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

struct Sender {
    public: DatagramPublicKey,
    direction: Zeroizing<[u8; 32]>,
    current: Option<Current>,
}

/// The start of a sender that counts.
struct Current {
    boot: Boot,
    key: LessSafeKey,
    windows: [Window; LINKS_MAX],
}

impl Current {
    fn new(direction: &[u8; 32], boot: Boot) -> Current {
        let key = boot_key(direction, boot);
        Current { boot, key, windows: std::array::from_fn(|_| Window::default()) }
    }
}

/// A datagram that was opened. The payload lives in the opener until the next one.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The replica that sealed it.
    pub sender: u64,
    /// The link that it was sealed for.
    pub link: u8,
    /// The start of its sender.
    pub boot: Boot,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Opens what this node receives, and counts what it drops.
pub struct Opener {
    me: Me,
    senders: BTreeMap<u64, Sender>,
    counters: Counters,
    buffer: [u8; PAYLOAD_MAX],
}

struct Header {
    link: u8,
    sender: u64,
    boot: Boot,
    counter: u64,
}

impl Opener {
    /// An opener for replica `replica`.
    #[must_use]
    pub fn new(cluster: ClusterId, replica: u64, counters: Counters) -> Opener {
        let (senders, buffer) = (BTreeMap::new(), [0; PAYLOAD_MAX]);
        Opener { me: Me { cluster, replica }, senders, counters, buffer }
    }

    /// Sets whom it hears. One whose key stays keeps its window. Returns those whose key is no
    /// usable one; they are left out.
    pub fn set_peers(&mut self, mine: &DatagramKey, keys: &Keys) -> Vec<u64> {
        let mut unusable = Vec::new();
        self.senders.retain(|replica, known| keys.get(replica) == Some(&known.public));
        for (&replica, public) in keys {
            if replica == self.me.replica || self.senders.contains_key(&replica) {
                continue;
            }
            let Some(shared) = mine.shared_with(public) else {
                unusable.push(replica);
                continue;
            };
            let direction = self.me.direction(&shared, replica, self.me.replica);
            self.senders.insert(replica, Sender { public: *public, direction, current: None });
        }
        unusable
    }

    /// Opens a datagram. To see one that is too large, receive into more than [`DATAGRAM_MAX`]
    /// bytes.
    ///
    /// # Errors
    /// Why it was dropped; it has been counted.
    pub fn open(&mut self, datagram: &[u8]) -> Result<Opened<'_>, Dropped> {
        match self.try_open(datagram) {
            Ok((header, length)) => Ok(Opened {
                sender: header.sender,
                link: header.link,
                boot: header.boot,
                payload: &self.buffer[..length],
            }),
            Err(reason) => {
                self.counters.datagram_dropped(reason);
                Err(reason)
            }
        }
    }

    fn try_open(&mut self, datagram: &[u8]) -> Result<(Header, usize), Dropped> {
        let header = self.read_header(datagram)?;
        let sender = self.senders.get_mut(&header.sender).ok_or(Dropped::UnknownSender)?;
        let (clear, sealed) = datagram.split_at(HEADER);
        let (sealed, tag) = sealed.split_at(sealed.len() - TAG);
        let payload = &mut self.buffer[..sealed.len()];
        let mut open = |key: &LessSafeKey| {
            let nonce = nonce(header.link, header.counter);
            key.open_separate_gather(nonce, Aad::from(clear), sealed, tag, payload)
                .map_err(|_| Dropped::BadTag)
        };
        let link = header.link as usize;
        match &mut sender.current {
            Some(current) if current.boot == header.boot => {
                if !current.windows[link].is_new(header.counter) {
                    return Err(Dropped::Replay);
                }
                open(&current.key)?;
                current.windows[link].note(header.counter);
            }
            Some(current) if header.boot < current.boot => return Err(Dropped::OldBoot),
            // A later start, or the first one heard: it counts once its tag is right.
            _ => {
                if header.counter == 0 {
                    return Err(Dropped::Replay);
                }
                let mut later = Current::new(&sender.direction, header.boot);
                open(&later.key)?;
                later.windows[link].note(header.counter);
                sender.current = Some(later);
            }
        }
        Ok((header, sealed.len()))
    }

    fn read_header(&self, datagram: &[u8]) -> Result<Header, Dropped> {
        if datagram.len() < HEADER + TAG || datagram[..2] != MAGIC {
            return Err(Dropped::Garbage);
        }
        if datagram.len() > DATAGRAM_MAX {
            return Err(Dropped::Oversized);
        }
        if datagram[2] != VERSION {
            return Err(Dropped::Version);
        }
        if datagram[4..8] != self.me.cluster.0[..4] {
            return Err(Dropped::Cluster);
        }
        let link = datagram[3];
        if link as usize >= LINKS_MAX {
            return Err(Dropped::Garbage);
        }
        let number = |at: usize| {
            u64::from_be_bytes(datagram[at..at + 8].try_into().expect("eight bytes are a u64"))
        };
        let boot = Boot { start: number(16), nonce: number(24) };
        Ok(Header { link, sender: number(8), boot, counter: number(32) })
    }
}
