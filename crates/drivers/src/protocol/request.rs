//! What the agent may ask of the launcher.

use std::collections::BTreeMap;

use model::{Epoch, ResourceName, ResourceSpec};
use serde::{Deserialize, Serialize};

/// What an instance is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Running, not acting.
    Standby,
    /// Acting, under an epoch, while the lease lasts.
    Active,
}

impl Role {
    /// As `BACKSTAY_ROLE` says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Standby => "standby",
            Role::Active => "active",
        }
    }
}

/// What the agent asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// First on every connection; answered with [`super::Event::Hello`].
    Hello {
        /// [`super::PROTOCOL_VERSION`] of the agent.
        version: u32,
    },
    /// What the committed specification names, whole. Nothing else is started from then on;
    /// what runs already is left alone. An older version than the one known is refused.
    Specify {
        /// Index of the log entry that committed it.
        version: u64,
        /// The resources.
        resources: BTreeMap<ResourceName, ResourceSpec>,
    },
    /// Start an instance. Where it already runs in that role and epoch, its state is told again.
    Start {
        /// Of which resource.
        resource: ResourceName,
        /// The agent's number for it, which comes back in what is told of it.
        number: u64,
        /// In which role.
        role: Role,
        /// Under which epoch (a standby's: the newest one that the agent knows).
        epoch: Epoch,
    },
    /// Make the standby active.
    Promote {
        /// Of which resource.
        resource: ResourceName,
        /// The new epoch.
        epoch: Epoch,
    },
    /// Make the active instance a standby (or stop it, where it can't change roles).
    Demote {
        /// Of which resource.
        resource: ResourceName,
        /// At least the instance's own epoch.
        epoch: Epoch,
    },
    /// Stop the instance. Where it doesn't run, that is told, as evidence where it held an epoch.
    Stop {
        /// Of which resource.
        resource: ResourceName,
        /// Its number.
        number: u64,
        /// The epoch that it was handed, which ends with it; none for a standby.
        epoch: Option<Epoch>,
        /// Why, for the record; at most [`Request::REASON_BYTES_MAX`] bytes are kept.
        reason: String,
        /// Kill it without asking first: its epoch has to end now.
        at_once: bool,
    },
    /// The agent's probes passed for the first time (`ready = "probe"`).
    Ready {
        /// Of which resource.
        resource: ResourceName,
        /// The instance's epoch.
        epoch: Epoch,
    },
    /// Run the command of a health check, as the resource's user.
    ExecProbe {
        /// Of which resource.
        resource: ResourceName,
        /// Which of its health checks, from 0.
        index: u32,
    },
    /// Tell everything that runs and the last evidence of what does not.
    List,
}

impl Request {
    /// Longest reason kept.
    pub const REASON_BYTES_MAX: usize = 256;
}
