//! Roles: what a certificate says its holder is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the holder of a certificate is. `api::access` says what each may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A node that votes and runs instances.
    Voter,
    /// A node that votes and runs nothing.
    Witness,
    /// A node that runs instances and has no vote.
    Member,
    /// A person or program that may change the cluster.
    Operator,
    /// A person or program that may look at it.
    Viewer,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 5] =
        [Role::Voter, Role::Witness, Role::Member, Role::Operator, Role::Viewer];

    /// Whether this is a node: only nodes speak on the peer port and serve the API.
    #[must_use]
    pub const fn is_node(self) -> bool {
        matches!(self, Role::Voter | Role::Witness | Role::Member)
    }

    /// Its name in certificates and tokens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Voter => "voter",
            Role::Witness => "witness",
            Role::Member => "member",
            Role::Operator => "operator",
            Role::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or("a role is one of voter, witness, member, operator, viewer")
    }
}
