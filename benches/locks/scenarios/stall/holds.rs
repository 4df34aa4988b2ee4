//! A lock that very many hold, and clients that use it.

use super::readers::{LONG, READERS, Readers, until_waiting};
use super::{Case, section};
use crate::cpu;
use crate::effort::Effort;
use crate::fill::{TO_BUILD, hold_by_many};
use crate::loads::{OK, ONE, TOKEN_LEN, checked, granted};
use crate::pipe::{Batch, Pipe};
use crate::probe::{Watched, watch};
use crate::report::Section;
use crate::stats::count;
use crate::support::{Client, Reply, Server};

/// The lock, the first by [`super::key`].
const KEY: &str = "0";

/// Connections that send a batch at the same time.
const CONNECTIONS: usize = 20;

/// Commands in each batch: so many LOCK.ACQUIRE the server reads and carries out at once, 16 KB.
const COMMANDS: usize = 380;

pub(crate) fn run(effort: &Effort) -> Section {
    let server = Server::start();
    cpu::let_settle();
    let idle = Case::idle(&server, effort);
    let mut tokens = Vec::new();
    let building = Case::observe("", effort, || {
        server.client().ok("FLUSHALL");
        let (watched, taken) = watch(&server, || hold_by_many(&server, KEY, effort.holds));
        tokens = taken;
        watched
    });
    let held = tokens.len();
    let holds = count(held);
    let building = Case { what: format!("one connection takes {holds} SHARED holds on a lock"), ..building };
    let mut lock = Lock::new(&server, tokens);
    let mut cases = vec![idle, building];
    for burst in Burst::ALL {
        let case = Case::observe(&burst.name(), effort, || lock.burst(burst));
        // What LOCK.INFO costs is not promised to be little.
        cases.push(if burst == Burst::Info { case.without_target() } else { case });
    }
    let whole: [(&str, &[&str], String); 4] = [
        ("`RENAME`", &["RENAME", KEY, "renamed"], OK.to_owned()),
        ("`LOCK.BREAK`", &["LOCK.BREAK", KEY], format!(":{held}\r\n")),
        ("`DEL`", &["DEL", KEY], ONE.to_owned()),
        ("`UNLINK`", &["UNLINK", KEY], ONE.to_owned()),
    ];
    for leave in Leave::ALL {
        cases.push(Case::observe_with(READERS, &leave.name(), || {
            let mut readers = Readers::connect(&server, READERS);
            Case::observe(&leave.name(), effort, || lock.let_in(&mut readers, leave))
        }));
    }
    cases.push(Case::observe("one `LOCK.INFO` of it", effort, || lock.info()));
    cases.push(Case::observe("one `RESTORE` of it", effort, || lock.restored()).without_target());
    for (name, command, reply) in whole {
        cases.push(Case::observe(&format!("one {name} of it"), effort, || lock.once(command, &reply)));
    }
    section(
        "PINGs while a lock with very many holds is used",
        &format!(
            "A lock gets {holds} SHARED holds, {wanted} if the server gives so many in {seconds} s. Then {CONNECTIONS} \
             connections send {COMMANDS} commands each in one write; a client that waits to write, and {readers} behind \
             it to read, stops to wait; or one client sends a single command. Before each round the lock is made as it \
             was.",
            wanted = count(effort.holds),
            seconds = TO_BUILD.as_secs(),
            readers = count(READERS),
        ),
        &cases,
    )
}

/// What many connections send at the same time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Burst {
    Info,
    Acquire,
    Check,
    Extend,
    Release,
}

impl Burst {
    const ALL: [Self; 5] = [Self::Info, Self::Acquire, Self::Check, Self::Extend, Self::Release];

    fn name(self) -> String {
        let command = match self {
            Self::Info => "`LOCK.INFO`",
            Self::Acquire => "`LOCK.ACQUIRE SHARED`",
            Self::Check => "`LOCK.CHECK` of one token",
            Self::Extend => "`LOCK.EXTEND`",
            Self::Release => "`LOCK.RELEASE`",
        };
        format!("{CONNECTIONS} connections send {COMMANDS} {command} each")
    }

    /// The batches of the connections. The holds are the latest of the lock, each given once.
    fn batches(self, client: &mut Client, tokens: &[String]) -> Vec<Batch> {
        let mut latest = tokens.iter().rev();
        let (one, granted) = (&tokens[tokens.len() - 1], granted(TOKEN_LEN));
        let checked = checked(client, KEY, one);
        let mut push = |batch: &mut Batch| match self {
            Self::Info => batch.push(&["LOCK.INFO", KEY], ""),
            Self::Acquire => batch.push(&["LOCK.ACQUIRE", KEY, "SHARED"], &granted),
            Self::Check => batch.push(&["LOCK.CHECK", KEY, one], &checked),
            Self::Extend => batch.push(&["LOCK.EXTEND", KEY, latest.next().unwrap()], ONE),
            Self::Release => batch.push(&["LOCK.RELEASE", KEY, latest.next().unwrap()], ONE),
        };
        let mut batch = || {
            let mut batch = Batch::default();
            (0..COMMANDS).for_each(|_| push(&mut batch));
            batch.push(&["PING"], "+PONG\r\n");
            batch
        };
        (0..CONNECTIONS).map(|_| batch()).collect()
    }
}

/// How a writer stops to wait, and lets those behind it have the lock.
#[derive(Clone, Copy)]
enum Leave {
    Close,
    Withdraw,
}

impl Leave {
    const ALL: [Self; 2] = [Self::Close, Self::Withdraw];

    fn name(self) -> String {
        let how = match self {
            Self::Close => "its connection closes",
            Self::Withdraw => "`LOCK.RELEASE`",
        };
        format!("a waiting writer leaves {} readers: {how}", count(READERS))
    }
}

/// The lock, and what it takes to make it again.
struct Lock<'a> {
    server: &'a Server,
    client: Client,
    tokens: Vec<String>,
    payload: Vec<u8>,
    pipes: Vec<Pipe>,
}

impl<'a> Lock<'a> {
    /// It has these holds now.
    fn new(server: &'a Server, tokens: Vec<String>) -> Self {
        let mut client = server.client();
        let payload = client.call(&["DUMP", KEY]).bytes();
        let pipes = (0..CONNECTIONS).map(|_| Pipe::connect(server)).collect();
        Self { server, client, tokens, payload, pipes }
    }

    fn restore(&mut self) {
        let restored = self.client.call(&[b"RESTORE", KEY.as_bytes(), b"0", &self.payload, b"REPLACE"]);
        assert_eq!(restored, Reply::Simple("OK".into()));
    }

    fn restored(&mut self) -> Watched {
        watch(self.server, || self.restore()).0
    }

    fn burst(&mut self, burst: Burst) -> Watched {
        self.restore();
        let batches = burst.batches(&mut self.client, &self.tokens);
        let pipes = &mut self.pipes;
        let exchange = || {
            pipes.iter_mut().zip(&batches).for_each(|(pipe, batch)| pipe.send(batch));
            for (pipe, batch) in pipes.iter_mut().zip(&batches) {
                if burst == Burst::Info {
                    pipe.receive_until_pong();
                } else {
                    pipe.receive(batch);
                }
            }
        };
        watch(self.server, exchange).0
    }

    /// Has a writer wait, readers behind it, and the writer leave.
    fn let_in(&mut self, readers: &mut Readers<'_>, leave: Leave) -> Watched {
        const TOKEN: &str = "writer";
        self.restore();
        let mut writer = Pipe::connect(self.server);
        let (mut ask, mut withdraw) = (Batch::default(), Batch::default());
        ask.push(&["LOCK.ACQUIRE", KEY, "TOKEN", TOKEN, "BLOCK", LONG], "*-1\r\n");
        withdraw.push(&["LOCK.RELEASE", KEY, TOKEN], ":0\r\n");
        writer.send(&ask);
        until_waiting(&mut self.client, 1);
        readers.ask(READERS, 1, 1);
        let pipe = &mut self.pipes[0];
        let leaving = || {
            match leave {
                Leave::Close => drop(writer),
                Leave::Withdraw => {
                    pipe.exchange(&withdraw);
                }
            }
            readers.await_replies(READERS);
        };
        watch(self.server, leaving).0
    }

    /// One command.
    fn once(&mut self, command: &[&str], reply: &str) -> Watched {
        self.restore();
        let mut batch = Batch::default();
        batch.push(command, reply);
        let pipe = &mut self.pipes[0];
        let (watched, _) = watch(self.server, || {
            pipe.exchange(&batch);
        });
        watched
    }

    fn info(&mut self) -> Watched {
        self.restore();
        let mut batch = Batch::default();
        batch.push(&["LOCK.INFO", KEY], "");
        batch.push(&["PING"], "");
        let pipe = &mut self.pipes[0];
        let exchange = || {
            pipe.send(&batch);
            pipe.receive_until_pong();
        };
        watch(self.server, exchange).0
    }
}
