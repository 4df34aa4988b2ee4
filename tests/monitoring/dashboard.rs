//! Every query of the dashboard, on what a server says after a little of everything has happened to its locks.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::stage::{FOLDER, Stage, escaped, info_lock, watch};
use crate::support::Reply;
use crate::support::locks::acquire;

/// Numbers that no panel shows.
const NOT_SHOWN: [&str; 1] = ["lock_last_fence"];

#[test]
fn every_query_of_the_dashboard_gives_something() {
    let server = Stage::server().config("maxmemory 1gb").start();
    let stage = watch!(&server);
    let mut client = server.client();
    acquire(&mut client, "k TOKEN t");
    assert_eq!(client.run("DEL k"), Reply::Int(1));
    stage.wait_active(&["RedisLockRemoved"]);

    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(format!("{FOLDER}/dashboard.json")).unwrap()).unwrap();
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] != "query" {
            continue;
        }
        let query = filled(variable["definition"].as_str().unwrap());
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (series, label) = inner.rsplit_once(", ").unwrap();
        let found = stage.get(&format!("/api/v1/series?match[]={}", escaped(series)));
        let found = found.as_array().unwrap();
        assert!(!found.is_empty() && found.iter().all(|each| each[label].is_string()), "{query}: {found:?}");
    }

    let mut shown = BTreeSet::new();
    let mut queries = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = filled(target["expr"].as_str().unwrap());
            let found = stage.query(&query);
            assert!(!found.is_empty(), "{}: {query} gives nothing", panel["title"]);
            shown.extend(found.iter().filter_map(|sample| sample.labels["key"].as_str().map(str::to_owned)));
            queries += 1;
        }
    }
    assert!(queries >= 15, "the queries were not found: {queries}");
    let missing: Vec<String> = info_lock(&mut client)
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| !shown.contains(name) && !NOT_SHOWN.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}

/// A query with what Grafana would put in place of its variables.
fn filled(query: &str) -> String {
    let query = query.replace("$job", ".+").replace("$instance", ".+").replace("$__rate_interval", "1m");
    assert!(!query.contains('$'), "{query}");
    query
}
