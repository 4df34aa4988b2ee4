//! The pictures of contention.

use super::{CROWDS, RIVAL, Seen, WAIT};
use crate::means::Means;
use crate::plots::{self, Bars, Line};
use crate::report::Plot;
use crate::stats::{median, percentile};

pub(super) fn bars(crowds: &[[Seen; 4]]) -> Plot {
    let names: Vec<String> = Means::ALL.map(Means::name).to_vec();
    let groups: Vec<String> = CROWDS.iter().map(|crowd| crowd.name()).collect();
    let of = |figure: fn(&Seen) -> &[f64]| -> Vec<Vec<f64>> {
        crowds.iter().map(|seen| seen.iter().map(|seen| median(figure(seen))).collect()).collect()
    };
    let panels = [
        Bars { title: "Grants per second (more is better)", values: of(|seen| &seen.grants_per_s) },
        Bars { title: "Server CPU per grant, \u{b5}s (less is better)", values: of(|seen| &seen.cpu_us) },
    ];
    let said: Vec<String> = Means::ALL
        .iter()
        .zip(&crowds[0])
        .map(|(means, seen)| {
            let (grants, cpu) = (median(&seen.grants_per_s), median(&seen.cpu_us));
            format!("{} {grants:.0} grants/s at {cpu:.0} us of server CPU each", means.name())
        })
        .collect();
    Plot {
        file: "benchmarks-contention.svg",
        alt: format!(
            "Bar charts of grants per second and of server CPU per grant. With {}: {}.",
            CROWDS[0].name(),
            said.join("; ")
        ),
        svg: plots::bars(&names, &groups, &panels),
    }
}

pub(super) fn waits(seen: &[Seen; 4]) -> Plot {
    let lines: Vec<Line> = Means::ALL
        .iter()
        .zip(seen)
        .map(|(means, seen)| {
            let waits_ms = seen.waits_ms.concat();
            let point = |permille: u32| {
                let percent = f64::from(permille) / 10.0;
                (percentile(&waits_ms, percent), percent)
            };
            Line { name: means.name(), points: plots::PERMILLES.map(point).collect() }
        })
        .collect();
    let wait = &seen[WAIT].waits_ms.concat();
    let rival = &seen[RIVAL].waits_ms.concat();
    Plot {
        file: "benchmarks-waits.svg",
        alt: format!(
            "Share of grants by how long the client had waited, {} clients. Waiting in the server takes {} to {} ms for \
             nine grants in ten, polling every 10 ms anything from {} ms to {} ms.",
            CROWDS[0].clients,
            ms(percentile(wait, 5.0)),
            ms(percentile(wait, 95.0)),
            ms(percentile(rival, 5.0)),
            ms(percentile(rival, 95.0)),
        ),
        svg: plots::shares(&format!("Share of grants by wait, {}", CROWDS[0].name()), "wait, ms", &lines),
    }
}

fn ms(figure: f64) -> String {
    if figure < 10.0 { format!("{figure:.2}") } else { format!("{figure:.0}") }
}
