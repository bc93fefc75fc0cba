//! What is said of an operation that the cluster refused: its status, its code, and the next step
//! of whoever asked. The one table of it.

use model::operation::{Operation, Refusal as Refused, Scope};
use model::{NodeName, ResourceName};

use crate::api::{Problem, Refusal, Reply};

/// What an operation was about: what its next step depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    /// Moving a resource, or its failures.
    Resource(ResourceName),
    /// An instance that can't be stopped.
    Stuck(ResourceName),
    /// Putting a node out.
    Forget(NodeName),
    /// The coordinator's office.
    Office,
    /// Join tokens.
    Token,
    /// The authority and its certificates.
    Authority,
    /// Repositories of the vault.
    Repository,
    /// Anything else.
    Other,
}

impl About {
    pub(super) fn of(operation: &Operation) -> About {
        use Operation as O;
        match operation {
            O::Switchover { resource, .. } | O::Failover { resource } | O::Clear { resource } => {
                About::Resource(resource.clone())
            }
            O::Maintenance { scope: Scope::Resource(resource), .. }
            | O::EndMaintenance { scope: Scope::Resource(resource) } => {
                About::Resource(resource.clone())
            }
            O::ConfirmStopped { resource, .. } => About::Stuck(resource.clone()),
            O::Forget { node } => About::Forget(node.clone()),
            O::Transfer { .. } => About::Office,
            O::AddToken { .. } | O::UseToken { .. } | O::Join(_) => About::Token,
            O::Rotate(_) | O::Certify { .. } | O::Revoke { .. } => About::Authority,
            O::RecordHead { .. }
            | O::ReportFork { .. }
            | O::ClearFork { .. }
            | O::AcceptHead { .. }
            | O::ForgetRepository { .. } => About::Repository,
            O::Drain { .. }
            | O::Undrain { .. }
            | O::Maintenance { .. }
            | O::EndMaintenance { .. }
            | O::Apply { .. }
            | O::Rejoin(_)
            | O::Absence { .. } => About::Other,
        }
    }
}

/// The answer to a refused operation.
pub(super) fn reply(about: &About, refused: &Refused) -> Reply {
    let (kind, code) = class(refused);
    Reply::Refused(kind, Problem::new(code, refused, next_step(about, refused)))
}

fn class(refused: &Refused) -> (Refusal, &'static str) {
    match refused {
        Refused::NotCoordinator { .. } => (Refusal::Unavailable, "no-coordinator"),
        Refused::Unknown => (Refusal::Unknown, "unknown-outcome"),
        Refused::NoSuchResource(_) | Refused::NoSuchNode(_) => (Refusal::NotFound, "not-found"),
        Refused::CannotPlace { .. } | Refused::NoCandidate => (Refusal::Conflict, "cannot-place"),
        Refused::VersionMismatch { .. } => (Refusal::Conflict, "version"),
        Refused::BadSpec(_) => (Refusal::Invalid, "bad-specification"),
        Refused::BadWindow => (Refusal::Invalid, "bad-window"),
        Refused::BadToken(_) => (Refusal::Denied, "bad-token"),
        Refused::Busy => (Refusal::Unavailable, "busy"),
        Refused::NotNow(_) => (Refusal::Conflict, "not-now"),
        Refused::HeadMoved { .. } => (Refusal::Conflict, "head-moved"),
        Refused::Forked { .. } => (Refusal::Conflict, "forked"),
        Refused::BadHead(_) => (Refusal::Invalid, "bad-head"),
        Refused::TooManyRepositories => (Refusal::Conflict, "too-many-repositories"),
    }
}

/// What whoever asked does next.
fn next_step(about: &About, refused: &Refused) -> String {
    let fixed = match (refused, about) {
        (Refused::NotNow(_), _) => return not_now(about),
        (Refused::CannotPlace { .. }, About::Resource(resource)) => {
            return format!(
                "`backstay explain {resource}` says for every node why not; `--to` names another."
            );
        }
        (Refused::NoCandidate, About::Resource(resource)) => {
            return format!("`backstay explain {resource}` says for every node why not.");
        }
        (Refused::CannotPlace { .. } | Refused::NoCandidate, _) => {
            "A voter that runs resources must be up and have caught up: `backstay status`."
        }
        (Refused::NotCoordinator { .. }, _) => {
            "Try again in a moment. If it stays so, `backstay status` says which voters are down: \
             more than half of them must be up."
        }
        (Refused::Unknown, _) => "`backstay events` says whether it was done.",
        (Refused::NoSuchResource(_), _) => "`backstay status` lists the resources there are.",
        (Refused::NoSuchNode(_), About::Token) => {
            "Add a [[node]] of this name to the file, `backstay apply`, then join again."
        }
        (Refused::NoSuchNode(_), _) => "`backstay status` lists the nodes there are.",
        (Refused::VersionMismatch { .. }, _) => "Look at `backstay diff`, then apply again.",
        (Refused::BadSpec(_), _) => {
            "`backstay diff` says what stands against it. A node leaves by `backstay forget NODE` \
             before the file leaves it out."
        }
        (Refused::BadWindow, _) => "Say `--for 2h`, for example.",
        (Refused::BadToken(_), _) => "Ask an operator for a new one (`backstay token`).",
        (Refused::Busy, About::Token) => "Try again when tokens that are out have expired.",
        (Refused::Busy, _) => "Try again in a moment.",
        (Refused::HeadMoved { .. }, _) => "`backstay vault heads` says what is remembered.",
        (Refused::Forked { .. }, _) => "Compare the repository with another copy.",
        (Refused::BadHead(_), _) => "GET /v1/openapi.json says what it takes.",
        (Refused::TooManyRepositories, _) => "`backstay vault heads --forget` one.",
    };
    fixed.to_owned()
}

fn not_now(about: &About) -> String {
    match about {
        About::Resource(resource) => format!(
            "`backstay explain {resource}` says what is under way. Once the cause is mended, \
             `backstay clear {resource}` ends a quarantine; `backstay maintenance --end` ends a \
             maintenance."
        ),
        About::Stuck(resource) => format!(
            "`backstay explain {resource}` says where an instance can't be stopped; power that \
             machine off, and repeat this when the node is down."
        ),
        About::Forget(node) => format!(
            "If {node} coordinates, `backstay transfer` first; then `backstay forget {node}` again."
        ),
        About::Authority => {
            "`backstay authority show` says which step is under way and for whom it waits."
                .to_owned()
        }
        About::Repository => "`backstay vault heads` says what is remembered.".to_owned(),
        About::Office | About::Token | About::Other => {
            "`backstay status` says how things are; then ask again.".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(operation: &Operation, refused: &Refused) -> String {
        match reply(&About::of(operation), refused) {
            Reply::Refused(_, problem) => problem.help,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_refusal_names_the_step_that_leads_on() {
        let resource: ResourceName = "gateway".parse().unwrap();
        let node: NodeName = "c".parse().unwrap();
        let not_now = Refused::NotNow("no".to_owned());
        let switchover = Operation::Switchover { resource: resource.clone(), to: None };
        let stuck = Operation::ConfirmStopped { resource: resource.clone(), node: node.clone() };
        let forget = Operation::Forget { node: node.clone() };
        let apply =
            Operation::Apply { spec: Default::default(), text: String::new(), base: Some(1) };
        let bad = Refused::BadSpec("node c has joined".to_owned());
        let table = [
            (&switchover, &not_now, "`backstay clear gateway`"),
            (&switchover, &not_now, "`backstay maintenance --end`"),
            (&switchover, &Refused::NoCandidate, "`backstay explain gateway`"),
            (&stuck, &not_now, "power that machine off"),
            (&forget, &not_now, "`backstay transfer` first"),
            (&apply, &bad, "`backstay forget NODE`"),
            (&apply, &Refused::VersionMismatch { version: 2 }, "`backstay diff`"),
            (&Operation::Transfer { to: None }, &Refused::NoCandidate, "voter"),
        ];
        for (operation, refused, step) in table {
            let told = help(operation, refused);
            assert!(told.contains(step), "{operation:?} {refused:?}: {told}");
        }
    }
}
