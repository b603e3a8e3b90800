//! The command line: what `stanchion` can be told. `--help` of each command is its documentation.
//!
//! Only words and their shapes are here; what they mean together is decided in `config.rs` and by the commands themselves.
//! Called by `main`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Parser, Debug)]
#[command(name = "stanchion", version, about = "A self-hosted control plane for durable execution")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// One node on this machine, ready for workers of any Temporal SDK.
    Dev(DevArgs),
    /// A member of a cluster.
    Node(NodeArgs),
    /// Operations on a cluster.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Reads every run of a live cluster, or exported histories, and checks the rules of durable execution on them. Changes nothing.
    ///
    /// Exits with 1 and lists what it saw if a rule is broken, with 2 if it could not look.
    Verify(VerifyArgs),
}

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// A node; may be given many times, others are asked when one is away.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7233")]
    pub address: Vec<String>,
    /// A namespace to look at; may be given many times. All of them when none is given.
    #[arg(long, value_name = "NAME")]
    pub namespace: Vec<String>,
    /// Also writes each history into this folder, which must be empty or not there: Temporal's JSON, and a manifest with digests.
    #[arg(long, value_name = "DIR", conflicts_with = "histories")]
    pub export: Option<PathBuf>,
    /// Reads no cluster but files: an export, a folder of histories as `temporal workflow show --output json` prints them, or one such.
    #[arg(long, value_name = "DIR|FILE", conflicts_with_all = ["address", "namespace"])]
    pub histories: Option<PathBuf>,
    /// Histories read at the same time.
    #[arg(long, default_value_t = 16)]
    pub at_once: usize,
    /// Seconds after which a call that no node has answered is given up.
    #[arg(long, default_value_t = 30)]
    pub within: u64,
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct DevArgs {
    /// Where clients and workers connect.
    #[arg(long, env = "STANCHION_GRPC", default_value = "127.0.0.1:7233")]
    pub grpc: String,
    /// Health and metrics.
    #[arg(long, env = "STANCHION_HTTP", default_value = "127.0.0.1:8233")]
    pub http: String,
    /// Node to node and administration; port 0 takes a free one.
    #[arg(long, env = "STANCHION_PEER", default_value = "127.0.0.1:0")]
    pub peer: String,
    /// Where everything is kept.
    #[arg(long, env = "STANCHION_DATA", default_value = "./stanchion-data")]
    pub data: PathBuf,
    /// Keep everything in a temporary folder that is removed at the end.
    #[arg(long, env = "STANCHION_EPHEMERAL", conflicts_with = "data")]
    pub ephemeral: bool,
    /// A namespace to have ready besides `default` and `mistral-workflows`; may be given many times.
    #[arg(long, value_name = "NAME")]
    pub namespace: Vec<String>,
    /// A custom search attribute for those namespaces; types as in Temporal (Keyword, Int, …); may be given many times.
    #[arg(long, value_name = "NAME=TYPE", value_parser = pair)]
    pub search_attribute: Vec<(String, String)>,
    /// Any bound by its name; may be given many times. A wrong name lists them all.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub limit: Vec<(String, String)>,
    /// Shard groups of a data folder that is made anew.
    #[arg(long, env = "STANCHION_GROUPS", default_value_t = 4)]
    pub groups: u32,
    /// Listen beyond this machine without any authentication.
    #[arg(long, env = "STANCHION_INSECURE")]
    pub insecure: bool,
    #[arg(long, env = "STANCHION_LOG_FORMAT", default_value = "human")]
    pub log_format: LogFormat,
}

#[derive(Args, Debug)]
pub struct NodeArgs {
    /// A TOML file; every setting can also be given as STANCHION_<NAME>.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen beyond this machine without any authentication.
    #[arg(long)]
    pub insecure: bool,
}

#[derive(Subcommand, Debug)]
pub enum ClusterCommand {
    /// Creates a cluster over nodes that run and belong to none yet. Once in a cluster's life.
    Init {
        /// Members as NUMBER=PEER_ADDRESS, separated by commas.
        #[arg(long, value_delimiter = ',', required = true, value_name = "N=ADDRESS", value_parser = member)]
        peers: Vec<(u64, String)>,
        /// Shard groups, for the life of the cluster's slot map.
        #[arg(long, default_value_t = 8)]
        groups: u32,
    },
    /// Groups, leaders, lag, disk.
    Status {
        /// The peer address of any node.
        #[arg(long, default_value = "127.0.0.1:7433")]
        peer: String,
        #[arg(long)]
        json: bool,
    },
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form NAME=VALUE")),
    }
}

fn member(text: &str) -> Result<(u64, String), String> {
    let (number, address) = pair(text).map_err(|_| format!("`{text}` is not of the form NUMBER=ADDRESS"))?;
    let number: u64 = number.parse().map_err(|_| format!("`{number}` in `{text}` is not a node number"))?;
    if number == 0 {
        return Err(format!("node number 0 in `{text}`: node numbers begin at 1"));
    }
    Ok((number, address))
}
