//! Logs: to stderr, for people or as JSON lines. RUST_LOG narrows or widens what is logged.
//!
//! Never: payloads, tokens or keys in a log line. Called by `main`, once.

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// openraft warns several times a second and group while a node is away; the transport says once when a connection is lost.
const DEFAULT_FILTER: &str =
    "info,openraft=error,openraft::raft::stream_append=off,tonic=warn,h2=warn,hyper=warn,tower=warn";

/// Starts logging. A second call does nothing.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let outcome = match format {
        LogFormat::Human => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = outcome {
        eprintln!("logging was started already: {error}");
    }
}

/// Turns a panic into a log line before the usual message, so that it is not lost among JSON lines.
pub fn log_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!(location = panic.location().map(ToString::to_string), "panic: {panic}");
        before(panic);
    }));
}
