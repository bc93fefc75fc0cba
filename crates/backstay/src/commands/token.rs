//! `backstay token`: a single-use join token.

use agent::identity::Role;
use model::NodeName;
use serde_json::json;

use super::connect::Connect;
use super::{Done, Failure, output};

/// Options of `token`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the one who joins may be
    #[arg(long, value_name = "ROLE", value_parser = role, default_value = "voter")]
    role: Role,
    /// The only name it is good for
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
    /// How long it is good for, such as 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = output::duration_ms)]
    life_ms: Option<u64>,
    #[command(flatten)]
    connect: Connect,
}

fn role(text: &str) -> Result<Role, String> {
    serde_json::from_value(json!(text))
        .map_err(|_| "the roles are voter, witness, member, operator and viewer".to_owned())
}

pub(crate) fn run(args: &Args) -> Done {
    let mut body = json!({ "role": args.role });
    if let Some(node) = &args.node {
        body["name"] = json!(node);
    }
    if let Some(life) = args.life_ms {
        body["life_ms"] = json!(life);
    }
    let answer = args.connect.open()?.post("/v1/tokens", &body)?;
    if args.connect.json {
        return output::json(&answer);
    }
    let token = answer["token"].as_str().ok_or_else(|| Failure::new("the answer has no token"))?;
    println!("{token}");
    Ok(())
}
