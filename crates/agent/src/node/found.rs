//! Founds a cluster: authority, the first node's identity, and the log's beginning, in one step.

use std::path::PathBuf;

use data_encoding::HEXLOWER;
use journal::{FIRST_INDEX, Options, RealDisk, Recovered, Replica, ReplicaConfig, Segments};
use model::spec::NodeSpec;
use model::state::{ClusterState, Genesis, JoinRequest, MemberRole};
use model::{ClusterSpec, Epoch, NodeName, ReplicaId};

use super::files::{DataDir, FileError, NodeFile};
use crate::identity::{
    Authority, CertificateRequest, ClusterId, Credential, DatagramKey, Identity, IdentityError,
    IdentityFiles, NodeKey, Role, Subject, TrustBundle, Validity, wall_s,
};

/// How long certificates live, in days; nodes renew theirs at two thirds.
pub const CERTIFICATE_DAYS: u64 = crate::identity::authority::CERTIFICATE_DAYS;
/// The first generation of a cluster.
pub const FIRST_GENERATION: u64 = 1;

/// What `init` is given.
#[derive(Debug, Clone)]
pub struct FoundOptions {
    /// The specification.
    pub spec: ClusterSpec,
    /// Its text.
    pub text: String,
    /// Which of its nodes this is.
    pub node: NodeName,
    /// The data directory.
    pub data: DataDir,
}

/// What `init` made.
#[derive(Debug, Clone)]
pub struct Founded {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Where the operator's certificate and key are.
    pub operator: PathBuf,
}

/// Why a cluster can't be founded here. Nothing is left behind that a second try minds.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// There is one already.
    #[error(
        "{0} already holds a node: founding again would make a second cluster of the same name. \
         Set the directory aside first if you mean it"
    )]
    Exists(PathBuf),
    /// The node is not in the specification.
    #[error("node {0} is not in the configuration; `--node` names one of its [[node]] entries")]
    NoSuchNode(NodeName),
    /// The first node has to vote and to run things.
    #[error("node {0} can't found the cluster: it is a witness or has no vote")]
    NoVoter(NodeName),
    /// Certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The log.
    #[error("the log can't be begun: {0}")]
    Log(String),
}

impl FoundOptions {
    /// Refuses what can't be founded, without making anything. Answers the node's place.
    ///
    /// # Errors
    /// [`FoundError`].
    pub fn place(&self) -> Result<&NodeSpec, FoundError> {
        let (node, data) = (&self.node, &self.data);
        let files = IdentityFiles::new(data.path());
        if files.exist() || data.node().is_ok() || data.log().exists() {
            return Err(FoundError::Exists(data.path().to_path_buf()));
        }
        let place =
            self.spec.nodes.get(node).ok_or_else(|| FoundError::NoSuchNode(node.clone()))?;
        if place.witness || !place.voter {
            return Err(FoundError::NoVoter(node.clone()));
        }
        Ok(place)
    }
}

/// Founds the cluster.
///
/// # Errors
/// [`FoundError`].
pub fn found(options: FoundOptions) -> Result<Founded, FoundError> {
    let links = options.place()?.links.clone();
    let FoundOptions { spec, text, node, data } = options;
    let files = IdentityFiles::new(data.path());
    let cluster = ClusterId::random();
    let authority = Authority::create(cluster, &spec.name, wall_s())?;
    let bundle = TrustBundle::new(vec![authority.certificate().clone()])?;
    let datagram = DatagramKey::generate();
    let public = datagram.public().0;

    let subject = Subject { cluster, role: Role::Voter, name: node.clone() };
    let credential = issue(&authority, &bundle, &subject, &links)?;
    files.save_authority(&authority)?;
    let operator_name = NodeName::new("operator").expect("a plain name");
    let operator = Subject { cluster, role: Role::Operator, name: operator_name };
    let operator_path = data.operator();
    let pem = issue(&authority, &bundle, &operator, &[])?.to_pem();
    crate::identity::write_file(&operator_path, pem.as_bytes(), 0o600)?;

    let request = JoinRequest {
        node: node.clone(),
        role: MemberRole::Voter,
        token: None,
        datagram_key: public,
    };
    let genesis = Genesis {
        cluster_id: u128::from_be_bytes(cluster.0),
        generation: FIRST_GENERATION,
        spec: spec.clone(),
        text,
        authorities: vec![authority.certificate().to_pem()],
        first: request,
    };
    begin_log(&data, genesis)?;
    let endpoints = super::backend::endpoints(&spec, &node);
    data.set_node(&NodeFile {
        cluster_id: HEXLOWER.encode(&cluster.0),
        cluster: spec.name.clone(),
        node,
        replica: ReplicaId(1),
        log_existed: true,
        ran: false,
        profile: spec.profile,
        endpoints,
    })?;
    // The certificate comes last: with it, the rest is there too.
    files.save(&Identity { credential, datagram })?;
    Ok(Founded { cluster, operator: operator_path })
}

/// Makes a key and a certificate for it.
///
/// # Errors
/// [`IdentityError`].
pub fn issue(
    authority: &Authority,
    bundle: &TrustBundle,
    subject: &Subject,
    links: &[std::net::IpAddr],
) -> Result<Credential, IdentityError> {
    let key = NodeKey::generate()?;
    let request = CertificateRequest::from_pem(&key.request()?)?;
    let validity = Validity::days(wall_s(), CERTIFICATE_DAYS);
    let chain = authority.issue(subject, &request, links, validity)?;
    Credential::new(bundle.clone(), &chain, key)
}

/// Writes the log's first state image: the control state after genesis, with this node as the
/// only voter.
fn begin_log(data: &DataDir, genesis: Genesis) -> Result<(), FoundError> {
    let mut state = ClusterState::default();
    let entry = model::Entry {
        by: ReplicaId(1),
        now: model::ClusterMs(0),
        wall_ms: wall_s() * 1_000,
        request: None,
        command: model::Command::Genesis(genesis),
        reasons: Vec::new(),
    };
    brain::cluster::apply(&mut state, FIRST_INDEX, &entry);
    debug_assert_eq!(state.last_epoch, Epoch { generation: FIRST_GENERATION, counter: 0 });
    let failed = |why: &dyn std::fmt::Display| FoundError::Log(why.to_string());
    let image = postcard::to_allocvec(&state).map_err(|e| failed(&e))?;
    std::fs::create_dir_all(data.log()).map_err(|e| failed(&e))?;
    let disk = RealDisk::open(&data.log()).map_err(|e| failed(&e))?;
    let (mut segments, recovered) =
        Segments::open(disk, Options::default()).map_err(|e| failed(&e))?;
    if !recovered.is_empty() {
        return Err(FoundError::Exists(data.log()));
    }
    let recovered = Recovered::bootstrap(&[1], image).map_err(|e| failed(&e))?;
    let mut replica = Replica::new(ReplicaConfig::new(1), recovered).map_err(|e| failed(&e))?;
    while let Some(work) = replica.work() {
        if let Some(write) = work.write {
            let id = write.id;
            segments.commit(&[write]).map_err(|e| failed(&e))?;
            replica.written(id);
        }
    }
    Ok(())
}
