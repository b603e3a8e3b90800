//! Settings from a file and from the environment, and those that are refused.

use super::*;

fn load(text: &str, variables: &[(&str, &str)]) -> Result<NodeConfig, ConfigError> {
    let folder = std::env::temp_dir().join(format!("stanchion-config-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("node.toml");
    std::fs::write(&path, text).unwrap();
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let args = NodeArgs { config: Some(path), insecure: false };
    let config = NodeConfig::from_sources(&args, |name| variables.get(name).cloned());
    std::fs::remove_dir_all(folder).unwrap();
    config
}

const GOOD: &str = r#"
        node_id = 2
        data = "/tmp/x"
        grpc = "127.0.0.1:7233"
        http = "127.0.0.1:8233"
        peer = "127.0.0.1:7433"
        [limits]
        history_events_max = 50
    "#;

#[test]
fn a_file_is_read_and_variables_win_over_it() {
    let config = load(GOOD, &[("STANCHION_NODE_ID", "7"), ("STANCHION_LIMIT_PAYLOAD_BYTES_MAX", "9")]).unwrap();
    assert_eq!((config.node_id, config.limits.history_events_max, config.limits.payload_bytes_max), (7, 50, 9));
}

#[test]
fn a_typo_is_an_error_that_names_it() {
    let error = load(&GOOD.replace("peer", "pear"), &[]).unwrap_err().to_string();
    assert!(error.contains("pear"), "{error}");
    let error = load(&GOOD.replace("history_events_max", "history_event_max"), &[]).unwrap_err().to_string();
    assert!(error.contains("history_event_max"), "{error}");
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let error = load("node_id = 1", &[]).unwrap_err();
    assert_eq!(error, ConfigError::Missing { name: "data" });
    let error = load(&GOOD.replace("127.0.0.1:7233", "nonsense"), &[]).unwrap_err().to_string();
    assert!(error.contains("grpc") && error.contains("nonsense"), "{error}");
    let error = load(&GOOD.replace("node_id = 2", "node_id = 0"), &[]).unwrap_err().to_string();
    assert!(error.contains("node_id"), "{error}");
}

#[test]
fn other_machines_reach_it_only_when_told_so() {
    let open = GOOD.replace("127.0.0.1:7233", "0.0.0.0:7233");
    assert!(matches!(load(&open, &[]), Err(ConfigError::Insecure { name: "grpc", .. })));
    assert!(load(&open, &[("STANCHION_INSECURE", "true")]).is_ok());
}

#[test]
fn other_nodes_can_be_dialled_elsewhere_than_recorded() {
    let filed = GOOD.replace("[limits]", "dial = { 1 = \"127.0.0.1:9001\", 3 = \"proxy.internal:9003\" }\n[limits]");
    let of = |pairs: &[(u64, &str)]| pairs.iter().map(|(n, a)| (*n, (*a).to_owned())).collect::<BTreeMap<_, _>>();
    assert_eq!(load(GOOD, &[]).unwrap().dial, of(&[]));
    assert_eq!(load(&filed, &[]).unwrap().dial, of(&[(1, "127.0.0.1:9001"), (3, "proxy.internal:9003")]));
    let config = load(&filed, &[("STANCHION_DIAL", "4=[::1]:9, 5=10.0.0.1:80,")]).unwrap();
    assert_eq!(config.dial, of(&[(4, "[::1]:9"), (5, "10.0.0.1:80")]), "the variable replaces what the file says");
}

#[test]
fn a_wrong_dial_is_named() {
    let refusals = [
        ("2", "`dial` is `2`: a node's number"),
        ("x=1.2.3.4:5", "`x` is not the number of a node"),
        ("0=1.2.3.4:5", "node numbers begin at 1"),
        ("2=nonsense", "`dial` is `2=nonsense`: not HOST:PORT"),
        ("2=host:99999", "not HOST:PORT"),
        ("2=:5", "not HOST:PORT"),
        ("2=host:0", "not HOST:PORT"),
        ("2=a:1,2=b:2", "node 2 is named twice"),
    ];
    for (text, expected) in refusals {
        let error = load(GOOD, &[("STANCHION_DIAL", text)]).unwrap_err().to_string();
        assert!(error.contains("`dial`") && error.contains(expected), "{text}: {error}");
    }
}
