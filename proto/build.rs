//! Generates Rust from two sources: Temporal's compiled descriptor set, which the crate `temporalio-protos` hands to its
//! dependents, and our own .proto files, which refer to it.
//!
//! Three choices are made here and nowhere else:
//! - payload data and everything of ours that is `bytes` stays a `Bytes` slice of the message that it came in;
//! - maps are ordered, because encoded bytes must be the same on every replica;
//! - a history inside a response is a field of raw bytes (the same on the wire), so serving one copies and never decodes.

use std::env;
use std::fs;
use std::path::PathBuf;

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use protox::Compiler;
use protox::file::{ChainFileResolver, DescriptorSetFileResolver, GoogleFileResolver, IncludeFileResolver};

type Failure = Box<dyn std::error::Error>;

const TEMPORAL: [&str; 4] = [
    "temporal/api/workflowservice/v1/service.proto",
    "temporal/api/operatorservice/v1/service.proto",
    "temporal/api/errordetails/v1/message.proto",
    "temporal/api/sdk/v1/workflow_metadata.proto",
];

const OURS: &[&str] = &[
    "stanchion/command/v1/command.proto",
    "stanchion/row/v1/row.proto",
    "stanchion/row/v1/standalone.proto",
    "stanchion/node/v1/node.proto",
    "stanchion/admin/v1/admin.proto",
];

const RAW_HISTORY: [(&str, &str); 3] = [
    ("PollWorkflowTaskQueueResponse", "history"),
    ("GetWorkflowExecutionHistoryResponse", "history"),
    ("GetWorkflowExecutionHistoryReverseResponse", "history"),
];

fn main() -> Result<(), Failure> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    let path = env::var("DEP_TEMPORALIO_PROTOS_DESCRIPTOR_PATH")?;
    println!("cargo:rerun-if-changed={path}");
    let temporal = FileDescriptorSet::decode(fs::read(path)?.as_slice())?;

    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new("proto".into()));
    resolver.add(DescriptorSetFileResolver::new(temporal));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(false);
    for file in TEMPORAL.iter().chain(OURS) {
        compiler.open_file(file)?;
    }
    let mut set = compiler.file_descriptor_set();

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), set.encode_to_vec())?;

    set.file.iter_mut().for_each(make_histories_raw);

    let grpc = env::var_os("CARGO_FEATURE_GRPC").is_some();
    let mut config = prost_build::Config::new();
    config.btree_map(["."]);
    config.enable_type_names();
    // One call: each one replaces what the one before it named.
    let histories = RAW_HISTORY.iter().map(|(response, f)| format!(".temporal.api.workflowservice.v1.{response}.{f}"));
    config.bytes(histories.chain([".temporal.api.common.v1.Payload".to_owned(), ".stanchion".to_owned()]));
    tonic_prost_build::configure()
        .build_server(grpc)
        .build_client(grpc)
        .include_file("api.rs")
        .compile_fds_with_config(set, config)?;
    Ok(())
}

fn make_histories_raw(file: &mut FileDescriptorProto) {
    if file.package() != "temporal.api.workflowservice.v1" {
        return;
    }
    for message in &mut file.message_type {
        for field in &mut message.field {
            if RAW_HISTORY.iter().any(|(m, f)| message.name.as_deref() == Some(m) && field.name() == *f) {
                field.set_type(Type::Bytes);
                field.type_name = None;
                field.proto3_optional = Some(true);
            }
        }
    }
}
