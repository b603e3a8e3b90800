//! Writes a journal as EDN, the notation that Jepsen's own checkers and Elle read: one map a line with `:index :type :f :value :process
//! :time`, and `:key` and `:error` where there are any.
//!
//! Never reads EDN. Called by whoever leaves a test's results in a folder.

use std::fmt::Write;

use serde_json::Value;

use super::{Kind, Line, Process};

/// One EDN map a line.
pub fn to_edn(lines: &[Line]) -> String {
    let mut out = String::new();
    for line in lines {
        write_line(&mut out, line);
        out.push('\n');
    }
    out
}

fn write_line(out: &mut String, line: &Line) {
    let kind = match line.kind {
        Kind::Invoke => ":invoke",
        Kind::Ok => ":ok",
        Kind::Fail => ":fail",
        Kind::Info => ":info",
    };
    // Writing to a string cannot fail.
    let _ = write!(out, "{{:index {}, :type {kind}, :f ", line.index);
    keyword(out, &line.f);
    if !line.key.is_empty() {
        out.push_str(", :key ");
        string(out, &line.key);
    }
    out.push_str(", :value ");
    value(out, &line.value);
    match line.process {
        Process::Client(number) => {
            let _ = write!(out, ", :process {number}");
        }
        Process::Nemesis(_) => out.push_str(", :process :nemesis"),
    }
    let _ = write!(out, ", :time {}", line.time);
    if let Some(error) = &line.error {
        out.push_str(", :error ");
        string(out, error);
    }
    out.push('}');
}

fn value(out: &mut String, json: &Value) {
    match json {
        Value::Null => out.push_str("nil"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Number(number) => {
            let _ = write!(out, "{number}");
            // Beyond a long, EDN wants to be told that arbitrary precision is meant.
            if number.as_u64().is_some_and(|number| number > i64::MAX as u64) {
                out.push('N');
            }
        }
        Value::String(text) => string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                value(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (at, (name, item)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                // A field's name is a keyword where it can be one: a workflow id or a number cannot.
                if is_keyword(name) {
                    keyword(out, name)
                } else {
                    string(out, name)
                }
                out.push(' ');
                value(out, item);
            }
            out.push('}');
        }
    }
}

fn is_keyword(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

fn keyword(out: &mut String, name: &str) {
    out.push(':');
    for c in name.chars() {
        out.push(if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' });
    }
}

fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // EDN reads the escapes of Java's strings, of which this is the one for everything else.
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
