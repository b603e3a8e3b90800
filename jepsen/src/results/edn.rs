//! JSON as EDN: keys become keywords. Writes only.

use serde_json::Value;

pub fn form(value: &Value) -> String {
    match value {
        Value::Null => "nil".into(),
        // EDN's strings, numbers and booleans of this kind are written as JSON's.
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(form).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{} {}", keyword(key), form(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

/// A key that cannot be a keyword stays a string.
fn keyword(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '?' | '.' | '>');
    if !key.is_empty() && key.chars().all(plain) && !key.starts_with(|c: char| c.is_ascii_digit()) {
        format!(":{key}")
    } else {
        Value::from(key).to_string()
    }
}
