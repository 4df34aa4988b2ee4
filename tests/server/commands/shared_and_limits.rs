//! The one rule of admission: a request is granted when `holds + 1 <= the smallest limit among the holds and the
//! request`. Mutex, read/write lock and semaphore follow from it, and so does changing a hold's limit.

use crate::support::locks::{acquire, exists, field, held, holders, null, refused};
use crate::support::{Client, Random, Reply, Server, cmd, ok_grant};

/// A limit as a test writes it: `None` is no limit, SHARED.
type Limit = Option<i64>;

const SHARED: Limit = None;
const EXCLUSIVE: Limit = Some(1);

#[test]
fn a_request_is_granted_while_nobodys_limit_is_exceeded() {
    let five = [Some(5); 5];
    let cases: &[(&[Limit], Limit, bool)] = &[
        (&[], EXCLUSIVE, true),
        (&[], Some(2), true),
        (&[], Some(65_535), true),
        (&[], SHARED, true),
        (&[EXCLUSIVE], EXCLUSIVE, false),
        (&[EXCLUSIVE], SHARED, false),
        (&[EXCLUSIVE], Some(9), false),
        (&[SHARED], EXCLUSIVE, false),
        (&[SHARED], SHARED, true),
        (&[SHARED], Some(2), true),
        (&[SHARED], Some(65_535), true),
        (&[SHARED; 2], Some(2), false),
        (&[SHARED; 2], Some(3), true),
        (&[SHARED; 9], SHARED, true),
        (&[SHARED; 9], Some(10), true),
        (&[SHARED; 9], Some(9), false),
        (&[Some(2)], EXCLUSIVE, false),
        (&[Some(2)], Some(2), true),
        (&[Some(2)], SHARED, true),
        (&[Some(2); 2], Some(2), false),
        (&[Some(2); 2], SHARED, false),
        (&[Some(2); 2], Some(9), false),
        (&[Some(2), SHARED], SHARED, false),
        (&[SHARED, Some(2)], SHARED, false),
        (&[Some(3), SHARED], SHARED, true),
        (&[Some(3), SHARED], Some(2), false),
        (&[Some(9), Some(3)], Some(9), true),
        (&[Some(9), Some(3), Some(9)], Some(9), false),
        (&[Some(9), Some(4), Some(9)], SHARED, true),
        (&five[..4], Some(5), true),
        (&five, Some(5), false),
        (&five, Some(6), false),
        (&[Some(65_535)], SHARED, true),
    ];
    let server = Server::start();
    let mut client = server.client();
    for (index, (holds, request, granted)) in cases.iter().enumerate() {
        let key = format!("k{index}");
        grant_all(&mut client, &key, holds);
        let reply = request_hold(&mut client, &key, "new", *request);
        assert_eq!(!reply.is_null(), *granted, "{request:?} on {holds:?}");
        assert_eq!(
            holders(&mut client, &key).len(),
            holds.len() + usize::from(*granted),
            "{request:?} on {holds:?}"
        );
    }
}

#[test]
fn a_retry_changes_the_limit_when_the_rule_allows_it_without_the_caller() {
    // The caller's limit, those of the others, the one it wants, whether it gets it.
    let cases: &[(Limit, &[Limit], Limit, bool)] = &[
        // Alone, anything goes.
        (EXCLUSIVE, &[], SHARED, true),
        (EXCLUSIVE, &[], Some(7), true),
        (SHARED, &[], EXCLUSIVE, true),
        (Some(7), &[], EXCLUSIVE, true),
        (Some(2), &[], SHARED, true),
        // A reader among readers is no writer.
        (SHARED, &[SHARED], EXCLUSIVE, false),
        (SHARED, &[SHARED, SHARED], EXCLUSIVE, false),
        // Counting itself, it fits or it does not.
        (SHARED, &[SHARED], Some(2), true),
        (SHARED, &[SHARED, SHARED], Some(2), false),
        (SHARED, &[SHARED, SHARED], Some(3), true),
        (Some(5), &[Some(5), Some(5)], Some(3), true),
        (Some(5), &[Some(5), Some(5)], Some(2), false),
        // A smaller limit than needed was there already: the others' limits still bind.
        (Some(2), &[Some(2)], SHARED, true),
        (Some(2), &[Some(2)], Some(9), true),
        (Some(2), &[Some(2)], EXCLUSIVE, false),
        // The same limit again is no change.
        (SHARED, &[SHARED], SHARED, true),
        (Some(2), &[Some(2)], Some(2), true),
        (Some(3), &[SHARED, Some(3)], Some(3), true),
    ];
    let server = Server::start();
    let mut client = server.client();
    for (index, (own, others, wanted, allowed)) in cases.iter().enumerate() {
        let key = format!("k{index}");
        let fence = ok_grant(request_hold(&mut client, &key, "me", *own)).1;
        grant_all(&mut client, &key, others);
        let reply = request_hold(&mut client, &key, "me", *wanted);
        let case = format!("{own:?} among {others:?} wants {wanted:?}");
        assert_eq!(!reply.is_null(), *allowed, "{case}");
        let shown = shown_holds(&mut client, &key);
        let now = if *allowed { *wanted } else { *own };
        assert_eq!(shown[0], (fence, now), "{case}");
        assert_eq!(shown.len(), 1 + others.len(), "{case}");
    }
}

#[test]
fn a_reader_becomes_the_writer_once_it_is_alone() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a");
    acquire(&mut client, "k SHARED TOKEN b");
    refused(&mut client, "k LIMIT 1 TOKEN a");
    acquire(&mut client, "k SHARED TOKEN c");
    client.run("LOCK.RELEASE k b");
    refused(&mut client, "k LIMIT 1 TOKEN a");
    client.run("LOCK.RELEASE k c");
    acquire(&mut client, "k LIMIT 1 TOKEN a");
    refused(&mut client, "k SHARED TOKEN d");
}

#[test]
fn a_writer_becomes_a_reader_at_once_and_lets_readers_in() {
    let server = Server::start();
    let mut client = server.client();
    let writer = acquire(&mut client, "k TOKEN a");
    refused(&mut client, "k SHARED TOKEN b");
    let reader = acquire(&mut client, "k SHARED TOKEN a");
    assert_eq!(reader.fence, writer.fence);
    acquire(&mut client, "k SHARED TOKEN b");
    refused(&mut client, "k TOKEN c");
}

#[test]
fn of_two_readers_neither_becomes_the_writer() {
    let server = Server::start();
    let mut client = server.client();
    acquire(&mut client, "k SHARED TOKEN a");
    acquire(&mut client, "k SHARED TOKEN b");
    for token in ["a", "b", "a", "b"] {
        refused(&mut client, &format!("k LIMIT 1 TOKEN {token}"));
    }
    assert_eq!(shown_limits(&mut client, "k"), [SHARED, SHARED]);
}

#[test]
fn a_thousand_readers_or_permits_fit_and_no_more() {
    let server = Server::start();
    let mut client = server.client();
    for (key, limit) in [("readers", SHARED), ("permits", Some(1000))] {
        let requests: Vec<_> = (0..1000).map(|n| hold_command(key, &format!("t{n}"), limit)).collect();
        for reply in client.pipeline(&requests) {
            ok_grant(reply);
        }
        assert_eq!((held(&mut client, key), holders(&mut client, key).len()), (1000, 100));
    }
    refused(&mut client, "readers TOKEN late");
    refused(&mut client, "permits TOKEN late LIMIT 1000");
    refused(&mut client, "permits TOKEN late SHARED");
    acquire(&mut client, "readers TOKEN late SHARED");
    assert_eq!(client.run("LOCK.RELEASE permits t500"), Reply::Int(1));
    acquire(&mut client, "permits TOKEN late LIMIT 1000");
    refused(&mut client, "permits TOKEN later LIMIT 1000");
    assert_eq!(client.run("LOCK.BREAK permits"), Reply::Int(1000));
    assert!(!exists(&mut client, "permits"));
}

#[test]
fn random_requests_are_decided_as_a_naive_model_decides_them() {
    const KEYS: usize = 2;
    const TOKENS: usize = 6;
    const STEPS: usize = 4000;
    let limits = [EXCLUSIVE, Some(2), Some(3), Some(4), SHARED];
    let mut random = Random::from_environment();
    let server = Server::start();
    let mut client = server.client();
    let mut models = vec![Vec::<ModelHold>::new(); KEYS];
    for step in 0..STEPS {
        let index = random.below(KEYS);
        let (key, model) = (format!("k{index}"), &mut models[index]);
        let token = format!("t{}", random.below(TOKENS));
        let step = format!("step {step}: {key} {token}");
        match random.below(10) {
            0..6 => {
                let wanted = (random.below(4) > 0).then(|| *random.pick(&limits));
                let reply = match wanted {
                    Some(limit) => request_hold(&mut client, &key, &token, limit),
                    None => client.call(&cmd!["LOCK.ACQUIRE", key, "TOKEN", token]),
                };
                let fence = (!reply.is_null()).then(|| ok_grant(reply).1);
                model_acquire(model, &token, wanted, fence, &step);
            }
            6..9 => {
                let released = client.call(&cmd!["LOCK.RELEASE", key, token]);
                let held = model.iter().position(|hold| hold.token == token);
                assert_eq!(released, Reply::Int(i64::from(held.is_some())), "{step}");
                held.map(|at| model.remove(at));
            }
            _ => {
                let fence = model.first().map_or(1, |hold| hold.fence);
                let broken = client.call(&cmd!["LOCK.BREAK", key, "FENCE", fence]);
                assert_eq!(broken, Reply::Int(i64::from(!model.is_empty())), "{step}");
                model.retain(|hold| hold.fence != fence);
            }
        }
        let due: Vec<(i64, Limit)> = model.iter().map(|hold| (hold.fence, hold.limit)).collect();
        assert_eq!(shown_holds(&mut client, &key), due, "{step}");
    }
}

#[derive(Clone, Debug)]
struct ModelHold {
    token: String,
    limit: Limit,
    fence: i64,
}

/// What an acquire must do by the rule, and whether the server did it: `fence` is what it granted, if it did.
#[track_caller]
fn model_acquire(
    model: &mut Vec<ModelHold>,
    token: &str,
    wanted: Option<Limit>,
    fence: Option<i64>,
    step: &str,
) {
    let own = model.iter().position(|hold| hold.token == token);
    let limit = wanted.unwrap_or_else(|| own.map_or(EXCLUSIVE, |at| model[at].limit));
    let unchanged = own.is_some_and(|at| model[at].limit == limit);
    let others: Vec<&ModelHold> = model.iter().filter(|hold| hold.token != token).collect();
    let smallest = others.iter().map(|hold| hold.limit).chain([limit]).flatten().min();
    let asked = i64::try_from(others.len() + 1).unwrap_or(i64::MAX);
    let fits = smallest.is_none_or(|limit| asked <= limit);
    assert_eq!(fence.is_some(), unchanged || fits, "{step} wants {wanted:?} of {model:?}");
    let Some(fence) = fence else { return };
    match own {
        Some(at) => {
            assert_eq!(fence, model[at].fence, "{step}: a retry keeps its fence");
            model[at].limit = limit;
        }
        None => {
            assert!(model.iter().all(|hold| hold.fence < fence), "{step}: {fence} in {model:?}");
            model.push(ModelHold { token: token.to_owned(), limit, fence });
        }
    }
}

/// Has holds of these limits granted, in this order.
#[track_caller]
fn grant_all(client: &mut Client, key: &str, limits: &[Limit]) {
    for (index, limit) in limits.iter().enumerate() {
        ok_grant(request_hold(client, key, &format!("t{index}"), *limit));
    }
}

#[track_caller]
fn request_hold(client: &mut Client, key: &str, token: &str, limit: Limit) -> Reply {
    let reply = client.call(&hold_command(key, token, limit));
    assert!(matches!(reply, Reply::Array(_)) || reply == null(client), "{reply:?}");
    reply
}

fn hold_command(key: &str, token: &str, limit: Limit) -> Vec<Vec<u8>> {
    match limit {
        None => cmd!["LOCK.ACQUIRE", key, "TOKEN", token, "SHARED"].to_vec(),
        Some(limit) => cmd!["LOCK.ACQUIRE", key, "TOKEN", token, "LIMIT", limit].to_vec(),
    }
}

/// Fences and limits of the holds LOCK.INFO shows.
#[track_caller]
fn shown_holds(client: &mut Client, key: &str) -> Vec<(i64, Limit)> {
    let holds = holders(client, key);
    let limit = |hold: &Reply| Some(field(hold, "limit").int()).filter(|limit| *limit != 0);
    holds.iter().map(|hold| (field(hold, "fence").int(), limit(hold))).collect()
}

#[track_caller]
fn shown_limits(client: &mut Client, key: &str) -> Vec<Limit> {
    shown_holds(client, key).into_iter().map(|(_, limit)| limit).collect()
}
