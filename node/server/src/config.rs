//! What a node is told: from flags (`stanchion dev`), or from a TOML file and STANCHION_… variables (`stanchion node`).
//!
//! Everything is checked here, once, with errors that name the setting: behind this file a [`NodeConfig`] is right. Never: a default
//! that listens beyond the machine without authentication.
//!
//! Called by `main`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use stanchion_engine::limits::Limits;
use stanchion_proto::temporal::enums::v1::IndexedValueType;

use crate::cli::{DevArgs, LogFormat, NodeArgs};

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("{path}: {reason}")]
    Malformed { path: PathBuf, reason: String },
    #[error("setting `{name}` is missing: put it into the configuration file, or set STANCHION_{}", name.to_uppercase())]
    Missing { name: &'static str },
    #[error("setting `{name}` is `{value}`: {reason}")]
    Wrong { name: String, value: String, reason: String },
    #[error(transparent)]
    UnknownLimit(#[from] stanchion_engine::limits::UnknownLimit),
    #[error(
        "setting `{name}` is {address}, which other machines can reach, and there is no authentication: listen on \
         127.0.0.1, or say `insecure = true` (--insecure) if that is what you want"
    )]
    Insecure { name: &'static str, address: SocketAddr },
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub node_id: u64,
    pub data: PathBuf,
    pub ephemeral: bool,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub peer: SocketAddr,
    /// Where this node connects to others, by their numbers, instead of at their recorded peer addresses.
    pub dial: BTreeMap<u64, String>,
    pub insecure: bool,
    pub log_format: LogFormat,
    pub limits: Limits,
    /// Set for `stanchion dev`: what to create if it is not there.
    pub dev: Option<DevSetup>,
}

#[derive(Clone, Debug)]
pub struct DevSetup {
    pub groups: u32,
    pub namespaces: Vec<String>,
    pub search_attributes: BTreeMap<String, IndexedValueType>,
}

/// The file as it is written. Unknown keys are errors.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
struct File {
    node_id: Option<u64>,
    data: Option<PathBuf>,
    grpc: Option<String>,
    http: Option<String>,
    peer: Option<String>,
    #[serde(default)]
    dial: BTreeMap<String, String>,
    insecure: Option<bool>,
    log_format: Option<LogFormat>,
    #[serde(default)]
    limits: BTreeMap<String, u64>,
}

/// Namespaces that every `stanchion dev` has ready.
pub const DEV_NAMESPACES: [&str; 2] = ["default", "mistral-workflows"];

impl NodeConfig {
    pub fn from_dev(args: DevArgs) -> Result<Self, ConfigError> {
        let mut limits = Limits::default();
        for (name, value) in &args.limit {
            set_limit(&mut limits, name, value)?;
        }
        let mut namespaces: Vec<String> = DEV_NAMESPACES.map(str::to_owned).into();
        for name in args.namespace {
            if !namespaces.contains(&name) {
                namespaces.push(name);
            }
        }
        let mut search_attributes = BTreeMap::new();
        for (name, kind) in args.search_attribute {
            let indexed = parse_attribute_type(&kind).ok_or_else(|| ConfigError::Wrong {
                name: "search-attribute".into(),
                value: format!("{name}={kind}"),
                reason: "the types are Text, Keyword, Int, Double, Bool, Datetime and KeywordList".into(),
            })?;
            search_attributes.insert(name, indexed);
        }
        if args.groups == 0 {
            return Err(wrong("groups", "0", "a node needs at least one shard group"));
        }
        Self {
            node_id: 1,
            data: args.data,
            ephemeral: args.ephemeral,
            grpc: address("grpc", &args.grpc)?,
            http: address("http", &args.http)?,
            peer: address("peer", &args.peer)?,
            dial: BTreeMap::new(),
            insecure: args.insecure,
            log_format: args.log_format,
            limits,
            dev: Some(DevSetup { groups: args.groups, namespaces, search_attributes }),
        }
        .guarded()
    }

    pub fn from_file(args: &NodeArgs) -> Result<Self, ConfigError> {
        Self::from_sources(args, |name| std::env::var(name).ok())
    }

    fn from_sources(args: &NodeArgs, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let file = args.config.as_deref().map_or_else(|| Ok(File::default()), File::read)?;
        let text = |name: &'static str, filed: Option<String>| -> Result<String, ConfigError> {
            env(&variable(name)).or(filed).ok_or(ConfigError::Missing { name })
        };
        let node_id = text("node_id", file.node_id.map(|n| n.to_string()))?;
        let node_id = match node_id.parse::<u64>() {
            Ok(0) => return Err(wrong("node_id", "0", "node numbers begin at 1")),
            Ok(number) => number,
            Err(_) => return Err(wrong("node_id", &node_id, "this is not a whole number")),
        };
        let mut limits = Limits::default();
        for (name, value) in &file.limits {
            limits.set(name, *value)?;
        }
        for name in Limits::NAMES {
            if let Some(value) = env(&variable(&format!("limit_{name}"))) {
                set_limit(&mut limits, name, &value)?;
            }
        }
        let insecure = match env(&variable("insecure")) {
            Some(text) => text.parse().map_err(|_| wrong("insecure", &text, "this is neither true nor false"))?,
            None => file.insecure.unwrap_or(false),
        };
        let log_format = match env(&variable("log_format")).as_deref() {
            Some("human") => LogFormat::Human,
            Some("json") => LogFormat::Json,
            Some(other) => return Err(wrong("log_format", other, "the formats are human and json")),
            None => file.log_format.unwrap_or_default(),
        };
        let dial = match env(&variable("dial")) {
            Some(text) => dial(pairs(&text)?)?,
            None => dial(file.dial)?,
        };
        Self {
            node_id,
            data: text("data", file.data.map(|p| p.to_string_lossy().into_owned()))?.into(),
            ephemeral: false,
            grpc: address("grpc", &text("grpc", file.grpc)?)?,
            http: address("http", &text("http", file.http)?)?,
            peer: address("peer", &text("peer", file.peer)?)?,
            dial,
            insecure: insecure || args.insecure,
            log_format,
            limits,
            dev: None,
        }
        .guarded()
    }

    /// Refuses to be reachable from other machines unless told so.
    fn guarded(self) -> Result<Self, ConfigError> {
        if !self.insecure {
            for (name, address) in [("grpc", self.grpc), ("http", self.http), ("peer", self.peer)] {
                if !address.ip().is_loopback() {
                    return Err(ConfigError::Insecure { name, address });
                }
            }
        }
        Ok(self)
    }
}

impl File {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() })?;
        toml::from_str(&text)
            .map_err(|error| ConfigError::Malformed { path: path.to_owned(), reason: error.to_string() })
    }
}

fn variable(name: &str) -> String {
    format!("STANCHION_{}", name.to_uppercase())
}

fn wrong(name: &str, value: &str, reason: &str) -> ConfigError {
    ConfigError::Wrong { name: name.to_owned(), value: value.to_owned(), reason: reason.to_owned() }
}

fn set_limit(limits: &mut Limits, name: &str, value: &str) -> Result<(), ConfigError> {
    let number = value
        .parse()
        .map_err(|_| wrong(&format!("limit {name}"), value, "a limit is a whole number that is not negative"))?;
    Ok(limits.set(name, number)?)
}

/// `2=HOST:PORT,3=HOST:PORT`, as the environment has it.
fn pairs(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| match part.split_once('=') {
        Some((node, address)) => Ok((node.trim().to_owned(), address.trim().to_owned())),
        None => {
            Err(wrong("dial", part, "a node's number, `=` and HOST:PORT belong here, and a comma between two of them"))
        }
    };
    parts.map(pair).collect()
}

/// Names are not looked up here: what stands there may begin to listen later than this node.
fn dial(named: impl IntoIterator<Item = (String, String)>) -> Result<BTreeMap<u64, String>, ConfigError> {
    let mut dial = BTreeMap::new();
    for (node, address) in named {
        let said = format!("{node}={address}");
        let number = match node.parse::<u64>() {
            Ok(0) => return Err(wrong("dial", &said, "node numbers begin at 1")),
            Ok(number) => number,
            Err(_) => return Err(wrong("dial", &said, &format!("`{node}` is not the number of a node"))),
        };
        let is_address = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
        if !is_address {
            return Err(wrong("dial", &said, "not HOST:PORT"));
        }
        if dial.insert(number, address).is_some() {
            return Err(wrong("dial", &said, &format!("node {number} is named twice")));
        }
    }
    Ok(dial)
}

fn address(name: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let mut found = text.to_socket_addrs().map_err(|error| wrong(name, text, &format!("not HOST:PORT ({error})")))?;
    found.next().ok_or_else(|| wrong(name, text, "the host has no address"))
}

/// Temporal's names of search attribute types, as its command line takes them.
pub fn parse_attribute_type(text: &str) -> Option<IndexedValueType> {
    Some(match text.to_ascii_lowercase().as_str() {
        "text" => IndexedValueType::Text,
        "keyword" => IndexedValueType::Keyword,
        "int" => IndexedValueType::Int,
        "double" => IndexedValueType::Double,
        "bool" => IndexedValueType::Bool,
        "datetime" => IndexedValueType::Datetime,
        "keywordlist" => IndexedValueType::KeywordList,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
