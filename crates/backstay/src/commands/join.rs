//! `backstay join`: a further node joins, or a person gets a credential.

use std::path::PathBuf;

use agent::identity::{JoinToken, Role, can_write, read_file, write_file};
use agent::node::files::DataDir;
use agent::node::join::{JoinError, enrol, join};
use model::NodeName;

use super::{Done, Failure, connect, output};

/// Options of `join`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The token that `backstay token` printed; `-` or nothing reads it from standard input
    #[arg(long, value_name = "TOKEN", env = "BACKSTAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file that holds the token
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The name to join under: a node's from the configuration, or a person's
    #[arg(long, value_name = "NAME")]
    node: NodeName,
    /// Where a node's data goes
    #[arg(long, value_name = "DIR", env = "BACKSTAY_DATA", default_value = "/var/lib/backstay")]
    data: PathBuf,
    /// Where a person's credential goes
    #[arg(long, value_name = "FILE", default_value = "operator.pem")]
    credential: PathBuf,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

fn read_token(args: &Args) -> Result<JoinToken, Failure> {
    let text = match (&args.token, &args.token_file) {
        (_, Some(path)) => read_file(path, false).map_err(Failure::new)?.to_string(),
        (Some(text), None) if text != "-" => text.clone(),
        _ => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            line
        }
    };
    JoinToken::from_text(&text).map_err(Failure::new)
}

pub(crate) fn run(args: &Args) -> Done {
    let token = read_token(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if matches!(token.role, Role::Operator | Role::Viewer) {
        // The token is good once: what it buys must have a place.
        can_write(&args.credential).map_err(Failure::new)?;
        let credential = runtime.block_on(enrol(&token, args.node.clone())).map_err(failure)?;
        write_file(&args.credential, credential.to_pem().as_bytes(), 0o600)
            .map_err(Failure::new)?;
        if args.json {
            return output::json(&serde_json::json!({ "credential": args.credential }));
        }
        println!("The credential is {}: keep it safe.", args.credential.display());
        return Ok(());
    }
    let data = DataDir::new(&args.data);
    let welcome = runtime.block_on(join(&data, &token, args.node.clone())).map_err(failure)?;
    if args.json {
        return output::json(&serde_json::json!({
            "cluster": welcome.cluster, "node": args.node, "replica": welcome.replica
        }));
    }
    println!("{} joined cluster {}.", args.node, welcome.cluster);
    println!("Next: run launcher, guard and agent here; the agent catches up and takes part.");
    Ok(())
}

fn failure(error: JoinError) -> Failure {
    match error {
        JoinError::Call(error) => connect::failure(error),
        error => Failure::new(error),
    }
}
