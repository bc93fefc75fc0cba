//! `backstay transfer` and `backstay forget`.

use model::{NodeName, Operation};

use super::connect::Connect;
use super::{Done, output};

/// Options of `transfer`.
#[derive(Debug, clap::Args)]
pub(crate) struct TransferArgs {
    /// To which node; the best unless said otherwise
    #[arg(long, value_name = "NODE")]
    to: Option<NodeName>,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn transfer(args: &TransferArgs) -> Done {
    let answer = args.connect.open()?.operate(&Operation::Transfer { to: args.to.clone() })?;
    if args.connect.json {
        return output::json(&answer);
    }
    println!("The coordinator hands over; `backstay status` shows to whom.");
    Ok(())
}

/// Options of `forget`.
#[derive(Debug, clap::Args)]
pub(crate) struct ForgetArgs {
    /// The node
    node: NodeName,
    #[command(flatten)]
    connect: Connect,
}

pub(crate) fn forget(args: &ForgetArgs) -> Done {
    let answer = args.connect.open()?.operate(&Operation::Forget { node: args.node.clone() })?;
    let done = format!(
        "{} is out. Its certificate opens nothing any more; a new token lets it join again.",
        args.node
    );
    output::outcome(&answer, args.connect.json, &done)
}
