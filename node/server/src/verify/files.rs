//! Histories as files: one a run, in Temporal's JSON, as `temporal workflow show --output json` prints it; and a manifest that says what
//! there is, with a digest of each file.
//!
//! ```text
//! DIR/manifest.json
//! DIR/<namespace>/<run id>.json
//! ```
//!
//! Never: a file outside the folder, whatever ids are called; a file that was changed since the export taken for what was exported.
//!
//! Called by `verify`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stanchion_proto::temporal::history::v1::history_event::Attributes;
use stanchion_proto::temporal::history::v1::{History, HistoryEvent};

const MANIFEST: &str = "manifest.json";
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    made_by: String,
    runs: Vec<Entry>,
}

/// A run in the manifest.
#[derive(Serialize, Deserialize)]
struct Entry {
    namespace: String,
    workflow_id: String,
    run_id: String,
    /// Within the folder.
    file: PathBuf,
    events: usize,
    /// Of the file.
    blake3: String,
}

/// A run's history from a file.
pub struct Kept {
    /// Empty where no manifest says.
    pub namespace: String,
    pub workflow_id: String,
    pub run_id: String,
    pub events: Vec<HistoryEvent>,
}

/// Writes histories into a folder.
pub struct Export {
    dir: PathBuf,
    json: Json,
    manifest: Manifest,
}

impl Export {
    /// Into a folder that is not there yet, or is empty.
    pub fn into(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let is_empty = fs::read_dir(dir).with_context(|| dir.display().to_string())?.next().is_none();
        ensure!(is_empty, "{} is not empty; an export needs a folder of its own", dir.display());
        let made_by = format!("stanchion {}", env!("CARGO_PKG_VERSION"));
        Ok(Self {
            dir: dir.to_owned(),
            json: Json::new()?,
            manifest: Manifest { format: FORMAT, made_by, runs: Vec::new() },
        })
    }

    pub fn add(
        &mut self,
        namespace: &str,
        workflow_id: &str,
        run_id: &str,
        events: &[HistoryEvent],
    ) -> anyhow::Result<()> {
        let file = Path::new(&plain(namespace)).join(format!("{}.json", plain(run_id)));
        let path = self.dir.join(&file);
        let text = self.json.write(events)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        fs::write(&path, &text).with_context(|| path.display().to_string())?;
        self.manifest.runs.push(Entry {
            namespace: namespace.to_owned(),
            workflow_id: workflow_id.to_owned(),
            run_id: run_id.to_owned(),
            file,
            events: events.len(),
            blake3: blake3::hash(text.as_bytes()).to_hex().to_string(),
        });
        Ok(())
    }

    /// Writes the manifest, without which a folder is no whole export.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.manifest.runs.sort_by(|a, b| (&a.namespace, &a.file).cmp(&(&b.namespace, &b.file)));
        let path = self.dir.join(MANIFEST);
        let text = serde_json::to_string_pretty(&self.manifest)? + "\n";
        fs::write(&path, text).with_context(|| path.display().to_string())
    }
}

/// Histories from a file, an export's folder, or a folder of files.
pub fn read(path: &Path) -> anyhow::Result<Vec<Kept>> {
    let json = Json::new()?;
    let manifest = path.join(MANIFEST);
    if path.is_file() {
        return Ok(vec![read_file(&json, path)?]);
    }
    if manifest.is_file() {
        return read_export(&json, path, &manifest);
    }
    let mut files = Vec::new();
    find(path, &mut files)?;
    files.sort();
    ensure!(!files.is_empty(), "there is no .json file in {}", path.display());
    files.iter().map(|file| read_file(&json, file)).collect()
}

fn read_export(json: &Json, dir: &Path, manifest: &Path) -> anyhow::Result<Vec<Kept>> {
    let named = || manifest.display().to_string();
    let manifest: Manifest = serde_json::from_slice(&fs::read(manifest).with_context(named)?).with_context(named)?;
    ensure!(manifest.format == FORMAT, "{}: format {}; this release reads {FORMAT}", named(), manifest.format);
    let mut kept = Vec::with_capacity(manifest.runs.len());
    for Entry { namespace, workflow_id, run_id, file, events, blake3 } in manifest.runs {
        let inside = file.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        ensure!(inside, "{}: {} is not within the folder", named(), file.display());
        let path = dir.join(&file);
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let found = blake3::hash(&bytes).to_hex();
        ensure!(
            found.as_str() == blake3,
            "{} is not what was exported: its BLAKE3 is {found}, not {blake3}",
            path.display()
        );
        let read = json.read(&bytes).with_context(|| path.display().to_string())?;
        ensure!(read.len() == events, "{} holds {} events, not {events}", path.display(), read.len());
        kept.push(Kept { namespace, workflow_id, run_id, events: read });
    }
    Ok(kept)
}

/// Without a manifest the first event says whose history it is.
fn read_file(json: &Json, path: &Path) -> anyhow::Result<Kept> {
    let named = || path.display().to_string();
    let events = json.read(&fs::read(path).with_context(named)?).with_context(named)?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let (workflow_id, run_id) = match events.first().and_then(|event| event.attributes.as_ref()) {
        Some(Attributes::WorkflowExecutionStartedEventAttributes(a)) => {
            (a.workflow_id.clone(), a.original_execution_run_id.clone())
        }
        _ => Default::default(),
    };
    let or_stem = |name: String| if name.is_empty() { stem.clone() } else { name };
    Ok(Kept { namespace: String::new(), workflow_id: or_stem(workflow_id), run_id: or_stem(run_id), events })
}

fn find(dir: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    Ok(())
}

/// A name as a file's: what could mean something to a file system is written as its bytes' numbers.
fn plain(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'.' if at > 0 => plain.push('.'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => plain.push(char::from(byte)),
            _ => plain.push_str(&format!("%{byte:02X}")),
        }
    }
    plain
}

/// Between events and Temporal's JSON, by the API's own descriptors.
struct Json {
    history: MessageDescriptor,
}

impl Json {
    fn new() -> anyhow::Result<Self> {
        let pool = DescriptorPool::decode(stanchion_proto::FILE_DESCRIPTOR_SET)?;
        let history = pool.get_message_by_name("temporal.api.history.v1.History");
        Ok(Self { history: history.ok_or_else(|| anyhow!("the API has no histories"))? })
    }

    fn write(&self, events: &[HistoryEvent]) -> anyhow::Result<String> {
        let bytes = History { events: events.to_vec() }.encode_to_vec();
        let history = DynamicMessage::decode(self.history.clone(), bytes.as_slice())?;
        Ok(serde_json::to_string_pretty(&history)? + "\n")
    }

    fn read(&self, text: &[u8]) -> anyhow::Result<Vec<HistoryEvent>> {
        let mut value: Value = serde_json::from_slice(text).context("this is not JSON")?;
        if let Some(inner) = value.get_mut("history").filter(|inner| inner.is_object()) {
            value = inner.take();
        }
        ensure!(value.get("events").is_some_and(Value::is_array), "this is no history: it has no list of `events`");
        drop_short_payloads(&mut value, &self.history);
        let options = DeserializeOptions::new().deny_unknown_fields(false);
        let history = DynamicMessage::deserialize_with_options(self.history.clone(), value, &options)
            .context("this is no history in Temporal's JSON")?;
        Ok(History::decode(history.encode_to_vec().as_slice())?.events)
    }
}

/// The CLI shows payloads as the values that they hold, which cannot be told from other JSON. No rule looks into payloads: they go.
fn drop_short_payloads(value: &mut Value, message: &MessageDescriptor) {
    let Value::Object(fields) = value else { return };
    for field in message.fields() {
        let Kind::Message(of) = field.kind() else { continue };
        let Some(inner) = fields.get_mut(field.json_name()) else { continue };
        if field.is_map() {
            let Some(of) = of.map_entry_value_field().kind().as_message().cloned() else { continue };
            let Value::Object(entries) = inner else { continue };
            entries.retain(|_, value| is_whole(value, &of));
            entries.values_mut().for_each(|value| drop_short_payloads(value, &of));
        } else if let Value::Array(items) = inner
            && field.is_list()
        {
            items.retain(|value| is_whole(value, &of));
            items.iter_mut().for_each(|value| drop_short_payloads(value, &of));
        } else if is_whole(inner, &of) {
            drop_short_payloads(inner, &of);
        } else {
            fields.remove(field.json_name());
        }
    }
}

fn is_whole(value: &Value, message: &MessageDescriptor) -> bool {
    let has =
        |names: &[&str]| value.as_object().is_some_and(|fields| fields.keys().all(|key| names.contains(&key.as_str())));
    match message.full_name() {
        "temporal.api.common.v1.Payloads" => has(&["payloads"]),
        "temporal.api.common.v1.Payload" => has(&["metadata", "data", "externalPayloads"]),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
