//! One list of keys: what the program reads is what the chart's schema takes, but for what the chart sets itself, and what is documented.

use std::collections::BTreeSet;

use clap::Parser as _;
use serde_json::Value as Json;
use toml::Table;

use super::Reader;
use crate::args::Args;

/// What a release sets by other values: addresses, the store, certificates and accounts.
const THE_CHARTS_OWN: [&str; 15] = [
    "listen",
    "health_listen",
    "metrics_listen",
    "store",
    "data_directory",
    "kubernetes.enabled",
    "kubernetes.kubeconfig",
    "kubernetes.lease",
    "tls.mode",
    "tls.certificate",
    "tls.key",
    "tls.secret",
    "tls.config_map",
    "authorization.enabled",
    "authorization.agent_service_account",
];

fn known() -> BTreeSet<String> {
    let mut reader = Reader { origin: String::new(), problems: Vec::new(), known: BTreeSet::new() };
    reader.settings(Table::new(), &Args::parse_from(["lastwords-aggregator"]));
    reader.known
}

#[test]
fn the_charts_schema_takes_what_is_read() {
    let schema: Json =
        serde_json::from_str(include_str!("../../../deploy/chart/values.schema.json")).unwrap();
    let config = &schema["properties"]["aggregator"]["properties"]["config"];
    let mut taken = BTreeSet::new();
    for (key, what) in config["properties"].as_object().unwrap() {
        match what["properties"].as_object() {
            Some(section) => taken.extend(section.keys().map(|inner| format!("{key}.{inner}"))),
            None => drop(taken.insert(key.clone())),
        }
    }
    let own: BTreeSet<String> = THE_CHARTS_OWN.map(str::to_owned).into();
    assert_eq!(own.intersection(&taken).collect::<Vec<_>>(), [""; 0], "the chart sets these itself");
    let both: BTreeSet<String> = own.union(&taken).cloned().collect();
    assert_eq!(both, known());
}

#[test]
fn every_key_is_documented() {
    let docs = include_str!("../../../docs/operations.md");
    let (_, docs) = docs.split_once("## The aggregator's configuration").unwrap();
    for key in known() {
        let (section, inner) = key.split_once('.').unwrap_or(("", &key));
        let is_there =
            docs.contains(&format!("`{inner}`")) || docs.contains(&format!("`[{section}] {inner}`"));
        assert!(is_there, "docs/operations.md has no {key}");
    }
}
