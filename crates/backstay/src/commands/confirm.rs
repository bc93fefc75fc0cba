//! Two confirmations for what can't be undone: the cluster's name, typed, and a token that the
//! first step prints, which holds for exactly the state that it has shown.

use std::collections::BTreeSet;

use agent::node::generation::Told;
use model::state::WHY_MAX;
use model::{Epoch, NodeName};
use serde::Serialize;

use super::Failure;

/// What a person says to go on.
#[derive(Debug, clap::Args)]
pub(crate) struct Confirm {
    /// You have seen that this node is off, or have cut its power; one for each that is named
    #[arg(long, value_name = "NODE")]
    off: Vec<NodeName>,
    /// Why, in your words; it goes into the log
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Who you are; it goes into the log
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// An epoch that a store has accepted, where you know of one higher than those shown
    #[arg(long, value_name = "EPOCH")]
    above: Option<Epoch>,
    /// First confirmation: the cluster's name
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Second confirmation: the token that the first step printed
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// Binds a confirmation to what was shown: 64 bits of a hash over all of it.
pub(crate) fn token(shown: &impl Serialize) -> Result<String, Failure> {
    let bytes = serde_json::to_vec(shown).map_err(Failure::new)?;
    let hash = blake3::derive_key("backstay 2026 confirmation of a new generation", &bytes);
    let groups: Vec<String> =
        hash[..8].chunks(2).map(|pair| format!("{:02x}{:02x}", pair[0], pair[1])).collect();
    Ok(groups.join("-"))
}

impl Confirm {
    /// Whether this is the second step. Anything that only belongs there is enough.
    pub(crate) fn is_given(&self) -> bool {
        self.cluster.is_some() || self.token.is_some()
    }

    /// Checks all that was confirmed against what is shown now.
    pub(crate) fn check(
        &self,
        cluster: &str,
        off: &BTreeSet<NodeName>,
        token: &str,
    ) -> Result<Told, Failure> {
        let no = |why: String| Err(Failure::with(4, format!("{why}. Nothing was changed")));
        let said: BTreeSet<NodeName> = self.off.iter().cloned().collect();
        if let Some(missing) = off.iter().find(|name| !said.contains(*name)) {
            return no(format!(
                "you have not said that {missing} is off. Look, cut its power if you must, then \
                 add `--off {missing}`: a node that still runs would go on with what it holds"
            ));
        }
        if let Some(other) = said.iter().find(|name| !off.contains(*name)) {
            return no(format!("{other} is none of the nodes that have to be off"));
        }
        match &self.cluster {
            Some(name) if name == cluster => {}
            Some(name) => return no(format!("this is cluster {cluster:?}, not {name:?}")),
            None => return no("the cluster's name is missing: `--cluster NAME`".to_owned()),
        }
        match &self.token {
            Some(given) if given == token => {}
            Some(_) => {
                return no("the token is for another state than the one shown now: something has \
                     changed since. Read it again, and use the new token"
                    .to_owned());
            }
            None => return no("the token of the first step is missing: `--token`".to_owned()),
        }
        let why = self.why.as_deref().map(str::trim).filter(|why| !why.is_empty());
        let Some(why) = why.filter(|why| why.len() <= WHY_MAX) else {
            return no(format!("say why, in at most {WHY_MAX} bytes: `--why TEXT`"));
        };
        Ok(Told { by: self.who(), why: why.to_owned(), off: self.off.clone(), above: self.above })
    }

    fn who(&self) -> String {
        let named = self.by.clone().filter(|by| !by.trim().is_empty());
        let user = || std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).ok();
        named.or_else(user).unwrap_or_else(|| "unknown".to_owned())
    }
}

/// The words of the second step. The cluster's name is left out: it is to be typed.
pub(crate) fn next(off: &BTreeSet<NodeName>, token: &str) -> String {
    let off: String = off.iter().map(|name| format!("--off {name} ")).collect();
    format!("{off}--by YOU --why \"…\" --cluster CLUSTER-NAME --token {token}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<NodeName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn sound() -> Confirm {
        Confirm {
            off: names(&["b", "c"]).into_iter().collect(),
            why: Some("both burnt".to_owned()),
            by: Some("carla".to_owned()),
            above: None,
            cluster: Some("exchange-a".to_owned()),
            token: Some("1111-2222-3333-4444".to_owned()),
        }
    }

    fn check(confirm: &Confirm) -> Result<Told, Failure> {
        confirm.check("exchange-a", &names(&["b", "c"]), "1111-2222-3333-4444")
    }

    #[test]
    fn both_confirmations_every_node_and_a_reason_are_needed() {
        assert_eq!(check(&sound()).unwrap().by, "carla");
        let one = names(&["b"]).into_iter().collect();
        let more = names(&["a", "b", "c"]).into_iter().collect();
        for (what, wrong) in [
            ("no name", Confirm { cluster: None, ..sound() }),
            ("another name", Confirm { cluster: Some("exchange-b".to_owned()), ..sound() }),
            ("no token", Confirm { token: None, ..sound() }),
            ("another token", Confirm { token: Some("1111".to_owned()), ..sound() }),
            ("a node left out", Confirm { off: one, ..sound() }),
            ("a node too many", Confirm { off: more, ..sound() }),
            ("no reason", Confirm { why: None, ..sound() }),
            ("an empty reason", Confirm { why: Some(" ".to_owned()), ..sound() }),
            ("a long reason", Confirm { why: Some("x".repeat(WHY_MAX + 1)), ..sound() }),
        ] {
            assert!(check(&wrong).is_err(), "{what}");
        }
    }

    #[test]
    fn a_token_holds_for_one_state_alone() {
        let shown = |index: u64, lost: &[&str]| token(&(index, names(lost))).unwrap();
        assert_eq!(shown(7, &["b", "c"]), shown(7, &["c", "b"]));
        assert_ne!(shown(7, &["b", "c"]), shown(8, &["b", "c"]));
        assert_ne!(shown(7, &["b", "c"]), shown(7, &["b"]));
    }
}
