//! `stanchion cluster …`: asks a node's admin service and prints what it says.
//!
//! Never: touches a data folder. Called by `main`.

use stanchion_client::cluster;

use crate::cli::ClusterCommand;

pub fn run(command: ClusterCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            ClusterCommand::Init { peers, groups } => {
                let cluster_id = cluster::init(&peers, groups).await?;
                println!("cluster {cluster_id} created over {} nodes with {groups} shard groups", peers.len());
            }
            ClusterCommand::Status { peer, json } => {
                let status = cluster::status(&peer).await?;
                if json {
                    println!("{}", cluster::to_json(&status));
                } else {
                    print!("{}", cluster::to_text(&status));
                }
            }
        }
        Ok(())
    })
}
