//! `memtide dcd-pool`.

use clap::Args;

use super::Socket;

/// Show the devices whose dynamic capacity is nodes of a pool, or say what to accept of them
///
/// For each: whether its fabric is there, what was accepted, what of that programs use, and what
/// came of the device's last request to give back.
#[derive(Debug, Args)]
pub struct DcdPool {
    #[command(flatten)]
    pub socket: Socket,
    /// From now on, accept of what is offered to this node: all, none, or until so much is held.
    /// What was accepted stays. Lasts as long as the daemon
    #[arg(long, value_name = "NODE=all|none|SIZE", value_parser = accept)]
    pub accept: Option<(String, String)>,
    /// JSON instead of text
    #[arg(long)]
    pub json: bool,
}

fn accept(text: &str) -> Result<(String, String), String> {
    let (node, what) = text.split_once('=').ok_or("expected NODE=all, NODE=none or NODE=SIZE")?;
    Ok((node.to_owned(), what.to_owned()))
}
