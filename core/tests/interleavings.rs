//! Every interleaving of three clients on one or two keys, up to a number of steps: breadth first, so that a failure
//! shows a shortest way to it. States that are the same but for the numbers of fences and the time of day are visited
//! once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod world;

use std::collections::HashSet;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use lock_core::queue::WaiterLimits;
use lock_core::token::LONGEST_SPELLED;
use lock_core::undo::What;
use lock_core::{ClientId, Fence, Moment};
use world::checks::World;
use world::steps::Whose::{Arriving, Elsewhere, Nobodys, Ours};
use world::steps::{NOT_OURS_MS, Request, SPOTS, Spot, Step};
use world::trace::Trace;

const CLIENTS: u64 = 3;
const LIMITS: WaiterLimits = WaiterLimits { in_all: 3, per_key: 3 };

const LEASE_MS: u64 = 10;
const BLOCK_MS: u64 = 4;
const QUEUE_MS: u64 = 5;

/// What is searched.
struct Scene {
    title: &'static str,
    /// What has happened before.
    before: &'static [Step],
    /// What each client may do at any time, besides what time and the server do.
    alphabet: fn(ClientId) -> Vec<Step>,
    /// What may happen besides at any time.
    events: &'static [Step],
    /// Whether clients may do the same, each under its own name.
    are_alike: bool,
    /// Up to how many steps.
    depth: usize,
}

/// Clients alone, who do nothing.
const NOTHING_ELSE: Scene =
    Scene { title: "", before: &[], alphabet: |_| Vec::new(), events: &[], are_alike: false, depth: 0 };

/// A state by the way to it: the state before, and the step from there.
struct Visited {
    before: Option<usize>,
    step: Step,
}

/// The way to a state.
fn path(scene: &Scene, visited: &[Visited], mut at: Option<usize>) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(index) = at {
        steps.push(visited[index].step);
        at = visited[index].before;
    }
    steps.extend(scene.before.iter().rev());
    steps.reverse();
    steps
}

fn replay(steps: &[Step]) -> World {
    let mut world = World::new(CLIENTS, LIMITS);
    steps.iter().for_each(|step| drop(world.pass(*step)));
    world
}

/// What can happen next. Clients who may do the same come in one order, for another would show nothing new.
fn next_steps(world: &World, scene: &Scene, came: ClientId) -> Vec<Step> {
    let coming = if scene.are_alike { came + 1 } else { CLIENTS };
    let mut steps: Vec<Step> = (1..=coming.min(CLIENTS)).flat_map(scene.alphabet).collect();
    let now = world.server.now;
    let leases = world.server.table.deadlines().first().map(|due| due.deadline);
    let waits = world.server.table.queues().next_timeout();
    let grace = world.model.grace_since.map(|since| since.plus_ms(world.model.grace_ms));
    let next = world.server.table.next_due(world.model.grace_ms);
    let ends = [leases, waits, grace, next].into_iter().flatten().filter(|end| *end > now);
    steps.extend(ends.map(|end| Step::Pass(now.ms_until(end))));
    steps.push(Step::EndTurn);
    steps.extend(scene.events);
    steps.retain(|step| world.can(*step));
    steps
}

/// The last of the clients who have done anything.
fn last_to_come(scene: &Scene, steps: &[Step]) -> ClientId {
    let has_come = |client: &ClientId| (scene.alphabet)(*client).iter().any(|step| steps.contains(step));
    (1..=CLIENTS).filter(has_come).max().unwrap_or(0)
}

/// Visits every state that the scene can come to. Returns how many there are.
fn visit(scene: &Scene) -> usize {
    let mut visited: Vec<Visited> = Vec::new();
    let mut known: HashSet<u64> = HashSet::from([fingerprint(replay(scene.before))]);
    let mut layer: Vec<Option<usize>> = vec![None];
    for _ in 0..scene.depth {
        let mut next_layer = Vec::new();
        for before in layer {
            let steps = path(scene, &visited, before);
            for step in next_steps(&replay(&steps), scene, last_to_come(scene, &steps)) {
                let world = take(scene.title, &steps, step);
                if known.insert(fingerprint(world)) {
                    next_layer.push(Some(visited.len()));
                    visited.push(Visited { before, step });
                }
            }
        }
        layer = next_layer;
    }
    let rest = if layer.is_empty() { "there are no more" } else { "more beyond" };
    println!("{}: {} states within {} steps, {rest}", scene.title, known.len(), scene.depth);
    known.len()
}

/// Takes a step more, and checks everything.
fn take(title: &str, steps: &[Step], step: Step) -> World {
    let mut trace = Trace { title: title.to_owned(), steps: steps.to_vec() };
    trace.steps.push(step);
    let mut world = replay(steps);
    if let Err(failure) = world.take(step) {
        panic!("{failure}");
    }
    world
}

/// What can still make a difference, as a number.
fn fingerprint(mut world: World) -> u64 {
    let server = &mut world.server;
    let now = server.now;
    let mut text = String::new();
    for spot in SPOTS {
        let holds = server.lock(spot).into_iter().flat_map(|lock| lock.holds());
        for hold in holds {
            let left = left(now, Some(hold.deadline()));
            let holder = world.model.holders.iter().find(|(_, holder)| holder.fence == hold.fence().get());
            let promised = holder.map(|(_, holder)| promises(now, holder));
            let (share, level, session) = (hold.share(), hold.level(), hold.session());
            let mut buffer = [0; LONGEST_SPELLED];
            let token = hold.token_text(&mut buffer);
            write!(text, "{token:?} {share:?} {left} {level} {session:?} {promised:?};").unwrap();
        }
        write!(text, "{}", left(now, server.ttls.get(&spot).copied())).unwrap();
        for waiter in world.model.queue(spot) {
            let (client, user, request, ahead) =
                (waiter.client, waiter.user, waiter.request, waiter.is_ahead);
            write!(text, "{client:?} {user} {request:?} {ahead} {};", left(now, waiter.until)).unwrap();
        }
        text.push('|');
    }
    write!(text, "{:?}", server.forbidden).unwrap();
    for (client, pending) in &server.blocked {
        let news = pending.as_ref().map(|pending| {
            let is_undone = server.table.undos_for(*client).next().is_some();
            pending.grant().map(|grant| (place_of(&world.model.holders, grant.fence), is_undone))
        });
        write!(text, "{client} {news:?};").unwrap();
    }
    while let Some(key) = server.table.marked() {
        let undos = server.table.pass_over(key.as_key());
        let undos = undos.iter().map(|undo| match undo.what {
            What::Session(client) => (Some(client), None, None),
            What::Grant => (None, Some(place_of(&world.model.holders, undo.fence)), None),
            What::Unclaimed { known, .. } => {
                let known = known.map(|known| (left(now, Some(known.deadline)), known.share, known.level));
                (None, Some(place_of(&world.model.holders, undo.fence)), Some(known))
            }
            What::Renewal { .. } => (None, None, None),
        });
        write!(text, "{key:?} {:?};", undos.collect::<Vec<_>>()).unwrap();
    }
    write!(text, "{:?}", server.open).unwrap();
    let model = &world.model;
    let put_off: Vec<_> =
        server.put_off.iter().map(|(spot, until)| (spot, left(now, Some(*until)))).collect();
    let came_back = model.came_back.values().map(|then| then.plus_ms(NOT_OURS_MS));
    let late: Vec<_> = came_back.map(|until| left(now, Some(until))).filter(|left| *left > 0).collect();
    let grace = left(now, model.grace_since.map(|since| since.plus_ms(model.grace_ms)));
    write!(text, "{:?} {put_off:?} {late:?} {grace}", server.slots).unwrap();
    write!(text, "{:?} {:?}", server.arriving, model.arrived).unwrap();
    write!(text, " {}", server.is_master).unwrap();
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// What is still to be told or claimed of a hold, without the time of day.
fn promises(now: Moment, holder: &world::model::Holder) -> Vec<String> {
    let promises = holder.promised.iter().map(|promise| {
        let kept = promise
            .kept
            .map(|(_, known)| known.map(|known| (left(now, Some(known.end)), known.share, known.level)));
        let until = left(now, promise.until);
        format!("{} {:?} {kept:?} {until} {}", promise.client, promise.before, promise.is_lost)
    });
    promises.collect()
}

/// Milliseconds left until a moment: 0 when it has passed, -1 when there is none.
fn left(now: Moment, until: Option<Moment>) -> i64 {
    until.map_or(-1, |until| now.ms_until(until).cast_signed())
}

/// Which of the holds has this fence, by its place in their order.
fn place_of(holders: &[(Spot, world::model::Holder)], fence: Fence) -> Option<usize> {
    holders.iter().position(|(_, holder)| holder.fence == fence.get())
}

fn own(client: ClientId) -> Request {
    Request::of(u8::try_from(client).unwrap(), LEASE_MS)
}

/// Readers and writers of one key, who wait without end and may change what they are.
fn readers_and_writers(client: ClientId) -> Vec<Step> {
    let spot = SPOTS[0];
    vec![
        Step::Acquire(client, spot, own(client).limit(1).block(0)),
        Step::Acquire(client, spot, own(client).limit(0).block(0)),
        Step::Release(client, spot, u8::try_from(client).unwrap(), 1),
        Step::Disconnect(client),
    ]
}

/// Two keys, each for one at a time, for which clients wait for a while.
fn two_keys(client: ClientId) -> Vec<Step> {
    let at = |spot| {
        [
            Step::Acquire(client, spot, own(client).block(BLOCK_MS)),
            Step::Release(client, spot, u8::try_from(client).unwrap(), 1),
        ]
    };
    let mut steps = vec![Step::Disconnect(client)];
    steps.extend(SPOTS[..2].iter().flat_map(|spot| at(*spot)));
    steps
}

/// Owners of two keys, who wait without end for the one while they hold the other. The third reads only.
fn owners_of_two_keys(client: ClientId) -> Vec<Step> {
    const OWNERS: [&[u8]; 4] = [b"nobody", b"me", b"you", b"her"];
    let number = u8::try_from(client).unwrap();
    let request = Request { owner: Some(OWNERS[usize::from(number)]), ..own(client) };
    let request = if client == 3 { request.limit(0) } else { request };
    let at = |spot| [Step::Acquire(client, spot, request.block(0)), Step::Release(client, spot, number, 1)];
    let mut steps = vec![Step::Disconnect(client)];
    steps.extend(SPOTS[..2].iter().flat_map(|spot| at(*spot)));
    steps
}

/// Two of three come with the same token, as a client does that lost its connection; one ties its hold to its own.
fn retries_and_sessions(client: ClientId) -> Vec<Step> {
    let (spot, number) = (SPOTS[0], u8::from(client > 2));
    let request = Request { session_delay_ms: (client > 1).then_some(0), ..Request::of(number, LEASE_MS) };
    vec![
        Step::Acquire(client, spot, request.block(BLOCK_MS)),
        Step::Acquire(client, spot, request.limit(2).block(0).level(if client == 2 { 2 } else { 1 })),
        Step::Release(client, spot, number, 1),
        Step::Release(client, spot, number, 2),
        Step::Unblock(client, true),
        Step::Unblock(client, false),
        Step::Disconnect(client),
    ]
}

/// A writer and a reader of a key, who wait without end.
fn one_key(client: ClientId) -> Vec<Step> {
    let (spot, number) = (SPOTS[0], u8::try_from(client).unwrap());
    if client > 2 {
        return Vec::new();
    }
    vec![
        Step::Acquire(client, spot, own(client).limit(u16::from(client == 1)).block(0)),
        Step::Release(client, spot, number, 1),
    ]
}

/// Two who come for a key in turn, each for a while; one ties its hold to its connection.
fn one_key_and_sessions(client: ClientId) -> Vec<Step> {
    let (spot, number) = (SPOTS[0], u8::try_from(client).unwrap());
    if client > 2 {
        return Vec::new();
    }
    let request = Request { session_delay_ms: (client == 1).then_some(0), ..own(client) };
    vec![
        Step::Acquire(client, spot, request.limit(2).block(BLOCK_MS)),
        Step::Acquire(client, spot, request),
        Step::Release(client, spot, number, 1),
        Step::Disconnect(client),
    ]
}

/// Three who wait for one key at places, with a connection or without; the third only asks in passing.
fn places(client: ClientId) -> Vec<Step> {
    let (spot, number) = (SPOTS[0], u8::try_from(client).unwrap());
    if client > 2 {
        return vec![Step::Acquire(client, spot, own(client))];
    }
    vec![
        Step::Acquire(client, spot, own(client).queue(QUEUE_MS)),
        Step::Acquire(client, spot, own(client).queue(QUEUE_MS).block(BLOCK_MS)),
        Step::Release(client, spot, number, 1),
        Step::Disconnect(client),
        Step::Unblock(client, true),
        Step::Unblock(client, false),
    ]
}

/// A reader that becomes the writer at a place, beside another reader, and one that comes with the same token on another
/// connection.
fn upgrades_at_places(client: ClientId) -> Vec<Step> {
    let (spot, number) = (SPOTS[0], u8::from(client == 2));
    let request = Request::of(number, LEASE_MS);
    let mut steps = vec![
        Step::Acquire(client, spot, request.limit(0)),
        Step::Release(client, spot, number, 1),
        Step::Disconnect(client),
    ];
    if client != 2 {
        steps.push(Step::Acquire(client, spot, request.limit(1).queue(QUEUE_MS).block(BLOCK_MS)));
        steps.push(Step::Acquire(client, spot, request.limit(1).block(0)));
    }
    steps
}

#[test]
fn places_without_connections() {
    let scene = Scene { title: "places", alphabet: places, are_alike: false, depth: 14, ..NOTHING_ELSE };
    assert!(visit(&scene) > 5_000);
}

#[test]
fn changes_of_a_limit_at_places() {
    let scene = Scene {
        title: "upgrades at places",
        alphabet: upgrades_at_places,
        are_alike: false,
        depth: 12,
        ..NOTHING_ELSE
    };
    assert!(visit(&scene) > 3_000);
}

#[test]
fn readers_and_writers_of_one_key() {
    let scene = Scene {
        title: "readers and writers",
        alphabet: readers_and_writers,
        are_alike: true,
        depth: 40,
        ..NOTHING_ELSE
    };
    assert!(visit(&scene) > 5_000);
}

#[test]
fn waiters_on_two_keys() {
    let scene = Scene { title: "two keys", alphabet: two_keys, are_alike: true, depth: 9, ..NOTHING_ELSE };
    assert!(visit(&scene) > 10_000);
}

#[test]
fn owners_who_may_wait_for_each_other() {
    let scene =
        Scene { title: "owners", alphabet: owners_of_two_keys, are_alike: false, depth: 8, ..NOTHING_ELSE };
    assert!(visit(&scene) > 5_000);
}

#[test]
fn retries_under_one_token_and_sessions() {
    let scene = Scene {
        title: "retries and sessions",
        alphabet: retries_and_sessions,
        are_alike: false,
        depth: 11,
        ..NOTHING_ELSE
    };
    assert!(visit(&scene) > 9_000);
}

#[test]
fn waiters_on_a_key_whose_slot_comes_and_goes() {
    let scene = Scene {
        title: "a slot that comes and goes",
        alphabet: one_key,
        events: &[
            Step::Slot(SPOTS[0], Ours),
            Step::Slot(SPOTS[0], Arriving),
            Step::Slot(SPOTS[0], Elsewhere),
            Step::Slot(SPOTS[0], Nobodys),
            Step::Migrate(SPOTS[0]),
            Step::Restore(SPOTS[0], 4, 2, LEASE_MS),
            Step::Look(usize::MAX),
        ],
        depth: 40,
        ..NOTHING_ELSE
    };
    assert!(visit(&scene) > 1_000);
}

#[test]
fn changes_of_roles_and_the_grace_that_follows() {
    let scene = Scene {
        title: "roles and a grace",
        before: &[Step::SetGrace(BLOCK_MS + 1)],
        alphabet: one_key_and_sessions,
        events: &[Step::Demote, Step::Promote],
        depth: 40,
        ..NOTHING_ELSE
    };
    assert!(visit(&scene) > 1_000);
}

#[test]
fn rights_that_come_and_go_and_times_to_live() {
    let scene = Scene {
        title: "rights and times to live",
        alphabet: readers_and_writers,
        events: &[
            Step::Forbid(1, true),
            Step::Forbid(1, false),
            Step::TimeToLive(SPOTS[0], Some(1)),
            Step::TimeToLive(SPOTS[0], None),
        ],
        depth: 7,
        ..NOTHING_ELSE
    };
    assert!(visit(&scene) > 1_000);
}
