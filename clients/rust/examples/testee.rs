//! Does what clients/conformance tells it, by this client.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)] // a failure ends it

use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, TlsCertificates,
};
use redis_lock_client::{Acquire, Error, Held, Locks};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{Notify, mpsc};

#[derive(Default)]
struct Testee {
    clients: Mutex<HashMap<String, Arc<Locks>>>,
    holds: Mutex<HashMap<String, Arc<Hold>>>,
    cancelled: Mutex<HashMap<u64, Arc<Notify>>>,
}

struct Hold {
    held: Held,
    client: Arc<Locks>,
    lost: AtomicU32,
}

#[tokio::main]
async fn main() {
    say(
        &json!({"ready": true, "protocols": [2, 3], "places": ["standalone", "sentinel", "cluster", "redlock"]}),
    );
    let testee = Arc::new(Testee::default());
    let mut actors = HashMap::<String, mpsc::UnboundedSender<Value>>::new();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        let request: Value = serde_json::from_str(&line).unwrap();
        match request["do"].as_str().unwrap() {
            "acquire" | "extend" | "release" | "guard" => {
                testee.cancelled.lock().unwrap().entry(id(&request)).or_default();
                let actor = actors.entry(text(&request["by"])).or_insert_with(|| act(testee.clone()));
                actor.send(request).unwrap();
            }
            "connect" => {
                let mut reply = json!({"id": request["id"]});
                match connect(&request) {
                    Ok(locks) => {
                        drop(testee.clients.lock().unwrap().insert(text(&request["client"]), locks.into()))
                    }
                    Err(error) => reply["error"] = json!(error.to_string()),
                }
                say(&reply);
            }
            "cancel" => {
                let cancelled =
                    testee.cancelled.lock().unwrap().get(&request["of"].as_u64().unwrap()).cloned();
                if let Some(cancelled) = cancelled {
                    cancelled.notify_one();
                }
                say(&json!({"id": request["id"]}));
            }
            "state" => {
                let hold = testee.hold(&request);
                let remaining = hold.held.remaining().as_secs_f64() * 1000.0;
                let (held, lost) = (hold.held.is_held(), hold.lost.load(Ordering::SeqCst));
                say(&json!({"id": request["id"], "held": held, "remaining": remaining, "lost": lost}));
            }
            "close" => {
                let locks = testee.clients.lock().unwrap().remove(request["client"].as_str().unwrap());
                tokio::spawn(async move {
                    if let Some(locks) = locks {
                        locks.close().await;
                    }
                    say(&json!({"id": request["id"]}));
                });
            }
            other => say(&json!({"id": request["id"], "error": format!("what is {other}?")})),
        }
    }
}

/// Does one thing after the other. What it holds is what it asks for the next level of.
fn act(testee: Arc<Testee>) -> mpsc::UnboundedSender<Value> {
    let (sender, mut requests) = mpsc::unbounded_channel::<Value>();
    tokio::spawn(async move {
        let mut around = Vec::<Arc<Hold>>::new();
        while let Some(request) = requests.recv().await {
            let mut reply = match request["do"].as_str().unwrap() {
                "acquire" => testee.acquire(&request, &mut around).await,
                "guard" => testee.guard(&request).await,
                "extend" => is(testee.hold(&request).held.extend(time(&request["options"]["lease"])).await),
                _ => {
                    let hold = testee.hold(&request);
                    around.retain(|other| !Arc::ptr_eq(other, &hold));
                    match hold.held.release().await {
                        Err(Error::Redis(_)) => json!({"is": null}),
                        released => is(released),
                    }
                }
            };
            reply["id"] = request["id"].clone();
            testee.cancelled.lock().unwrap().remove(&id(&request));
            say(&reply);
        }
    });
    sender
}

impl Testee {
    fn hold(&self, request: &Value) -> Arc<Hold> {
        self.holds.lock().unwrap()[request["hold"].as_str().unwrap()].clone()
    }

    async fn acquire(&self, request: &Value, around: &mut Vec<Arc<Hold>>) -> Value {
        let options = &request["options"];
        let (names, several) = match request["names"].as_array() {
            Some(names) => (names.iter().map(text).collect(), true),
            None => (vec![text(&request["name"])], false),
        };
        let is_held =
            |hold: &Arc<Hold>, name: &String| hold.held.names().iter().any(|held| held == name.as_bytes());
        let client = self.clients.lock().unwrap()[request["client"].as_str().unwrap()].clone();
        let is_outer = |hold: &&Arc<Hold>| {
            Arc::ptr_eq(&hold.client, &client)
                && !names.is_empty()
                && names.iter().all(|name| is_held(hold, name))
        };
        let asks_for_level = ["level", "token"].iter().any(|option| !options[option].is_null());
        let acquire = match around.iter().rfind(is_outer).filter(|_| !asks_for_level) {
            Some(outer) => outer.held.next_level(),
            None if several => client.acquire_all(&names),
            None => client.acquire(&names[0]),
        };
        let acquire = match with(acquire, options) {
            Ok(acquire) => acquire,
            Err(what) => return json!({"outcome": "error", "error": "OTHER", "message": what}),
        };
        let cancelled = self.cancelled.lock().unwrap()[&id(request)].clone();
        let outcome = tokio::select! {
            biased;
            () = cancelled.notified() => return json!({"outcome": "cancelled"}),
            outcome = acquire => outcome,
        };
        match outcome {
            Ok(Some(held)) => {
                let reply = json!({"outcome": "held", "fence": held.fence(), "token": held.token()});
                let hold = Arc::new(Hold { held, client, lost: AtomicU32::new(0) });
                let (lost, told) = (hold.held.lost(), hold.clone());
                tokio::spawn(async move {
                    lost.await;
                    told.lost.fetch_add(1, Ordering::SeqCst);
                });
                around.push(hold.clone());
                self.holds.lock().unwrap().insert(text(&request["as"]), hold);
                reply
            }
            Ok(None) => json!({"outcome": "none"}),
            Err(error) => failure(&error),
        }
    }

    async fn guard(&self, request: &Value) -> Value {
        let hold = self.hold(request);
        let words = request["command"].as_array().unwrap();
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word.as_str().map_or_else(|| word.to_string(), str::to_owned));
        }
        let guarded = match request["name"].as_str() {
            None => hold.held.guard(&command).await,
            Some(name) => hold.held.guard_by(name, &command).await,
        };
        guarded.map_or_else(|error| failure(&error), |reply| json!({"reply": plain(&reply)}))
    }
}

/// An error is what the types of the client do not let anybody say.
fn with(mut acquire: Acquire, options: &Value) -> Result<<Acquire as IntoFuture>::IntoFuture, String> {
    for (option, value) in options.as_object().unwrap() {
        acquire = match option.as_str() {
            "lease" => acquire.lease(time(value).unwrap()),
            "wait" => acquire.wait(time(value).unwrap()),
            "at_least" => acquire.at_least(time(value).unwrap()),
            "shared" if value == true => acquire.shared(),
            "session" if value == true => acquire.session(),
            "weight" => match value.as_u64().map(u16::try_from) {
                Some(Ok(weight)) => acquire.weight(weight),
                _ => return Err(format!("{value} is no weight")),
            },
            "delay" => acquire.delay(time(value).unwrap()),
            "limit" => acquire.limit(value.as_u64().unwrap().try_into().unwrap()),
            "replicas" => acquire.replicas(value.as_u64().unwrap().try_into().unwrap()),
            "owner" => acquire.owner(text(value)),
            "renew" => acquire.renew(value.as_bool().unwrap()),
            "token" => acquire.token(text(value), options["level"].as_u64().unwrap_or(1).try_into().unwrap()),
            _ => acquire,
        };
    }
    Ok(acquire.into_future())
}

fn connect(request: &Value) -> redis::RedisResult<Locks> {
    let mut settings = RedisConnectionInfo::default().set_protocol(match request["protocol"].as_u64() {
        Some(2) => ProtocolVersion::RESP2,
        _ => ProtocolVersion::RESP3,
    });
    if let (Some(user), Some(password)) = (request["user"].as_str(), request["password"].as_str()) {
        settings = settings.set_username(user).set_password(password);
    }
    let authority = request["ca"].as_str().map(|file| std::fs::read(file).unwrap());
    let scheme = if authority.is_some() { "rediss" } else { "redis" };
    let servers = request["servers"].as_array().unwrap();
    let address = |server: &Value| {
        format!("{scheme}://{}:{}", server[0].as_str().unwrap(), server[1]).into_connection_info()
    };
    let client = |server: &Value| {
        let info: ConnectionInfo = address(server)?.set_redis_settings(settings.clone());
        match &authority {
            None => Client::open(info),
            Some(root) => Client::build_with_tls(
                info,
                TlsCertificates { client_tls: None, root_cert: Some(root.clone()) },
            ),
        }
    };
    let mut clients = servers.iter().map(client);
    let locks = match request["place"].as_str().unwrap() {
        "standalone" => Locks::new(clients.next().unwrap()?),
        "cluster" => Locks::cluster(clients.collect::<Result<Vec<_>, _>>()?),
        "redlock" => Locks::redlock(clients.collect::<Result<Vec<_>, _>>()?),
        _ => Locks::sentinel(SentinelClient::build(
            servers.iter().map(address).collect::<Result<Vec<_>, _>>()?,
            text(&request["master"]),
            Some(SentinelNodeConnectionInfo::default().set_redis_connection_info(settings.clone())),
            SentinelServerType::Master,
        )?),
    };
    Ok(locks.with_timeout(time(&request["timeout"]).unwrap()))
}

fn plain(reply: &redis::Value) -> Value {
    match reply {
        redis::Value::Nil => Value::Null,
        redis::Value::Int(number) => json!(number),
        redis::Value::Okay => json!("OK"),
        redis::Value::SimpleString(text) => json!(text),
        redis::Value::BulkString(bytes) => json!(String::from_utf8_lossy(bytes)),
        redis::Value::Array(all) => all.iter().map(plain).collect(),
        other => json!(format!("{other:?}")),
    }
}

fn is(done: Result<(), Error>) -> Value {
    match done {
        Ok(()) => json!({"is": true}),
        Err(Error::Lost) => json!({"is": false}),
        Err(error) => failure(&error),
    }
}

fn failure(error: &Error) -> Value {
    let kind = match error {
        Error::Lost => "LOST",
        Error::QueueFull(_) => "QUEUEFULL",
        Error::Deadlock(_) => "DEADLOCK",
        Error::NotPermitted(_) => "NOPERM",
        Error::WrongType(_) => "WRONGTYPE",
        Error::TooFewReplicas { .. } => "REPLICAS",
        Error::Redis(error) if error.code().is_none() => "CONNECTION",
        _ => "OTHER",
    };
    json!({"outcome": "error", "error": kind, "message": error.to_string()})
}

fn id(request: &Value) -> u64 {
    request["id"].as_u64().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn time(value: &Value) -> Option<Duration> {
    value.as_f64().map(|ms| Duration::from_secs_f64(ms / 1000.0))
}

fn say(reply: &Value) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{reply}").unwrap();
    output.flush().unwrap();
}
