//! What work costs the server: its processor time, by its own account.

use std::thread;
use std::time::Duration;

use crate::effort::Effort;
use crate::loads::Load;
use crate::pipe::Pipe;
use crate::support::{Client, Server};

/// One of the sides of a comparison: a load, and the server it is put on.
pub(crate) struct Side {
    pipe: Pipe,
    info: Client,
    load: Load,
}

impl Side {
    pub(crate) fn new(server: &Server, load: Load) -> Self {
        Self { pipe: Pipe::connect(server), info: server.client(), load }
    }

    /// Microseconds of server CPU for one pair, or whatever the load counts, over so many passes.
    fn pair_us(&mut self, passes: usize) -> f64 {
        let before = used_us(&mut self.info);
        for _ in 0..passes {
            self.load.run(&mut self.pipe);
        }
        (used_us(&mut self.info) - before) / (passes * self.load.count()) as f64
    }
}

/// User and system time of the server process so far, all its threads, in microseconds.
pub(crate) fn used_us(client: &mut Client) -> f64 {
    let mut seconds = |field: &str| client.info("cpu", field).parse::<f64>().unwrap();
    (seconds("used_cpu_user") + seconds("used_cpu_sys")) * 1e6
}

/// How long a server must have run before it is measured. Within that time the module finds out whether anybody listens
/// to what it replicates.
const SETTLING: Duration = Duration::from_millis(300);

/// Lets a server that was just started find itself.
pub(crate) fn let_settle() {
    thread::sleep(SETTLING);
}

/// Puts the sides to work in turns, every other round backwards, and gives for each its figures, one a round:
/// microseconds of server CPU for a pair, or whatever the loads count. A shorter turn of each, to warm up, is not counted.
pub(crate) fn alternate(sides: &mut [Side], effort: &Effort) -> Vec<Vec<f64>> {
    let_settle();
    for side in &mut *sides {
        side.pair_us(effort.passes.div_ceil(4));
    }
    let mut figures = vec![Vec::with_capacity(effort.rounds); sides.len()];
    for round in 0..effort.rounds {
        for turn in 0..sides.len() {
            let turn = if round % 2 == 0 { turn } else { sides.len() - 1 - turn };
            figures[turn].push(sides[turn].pair_us(effort.passes));
        }
    }
    figures
}
