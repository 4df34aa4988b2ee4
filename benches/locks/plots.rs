//! The pictures, drawn on a ground of their own so that they can be read on a page of any colour.

use std::ops::RangeInclusive;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// For each value in turn; told apart by the colour-blind as well.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 90, 160), RGBColor(213, 94, 0), RGBColor(0, 145, 105), RGBColor(170, 80, 140)];

const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(222, 222, 222);
const FONT: &str = "sans-serif";
const WIDTH: usize = 760;

/// At which shares of the whole a curve of shares is drawn, in thousandths.
pub(crate) const PERMILLES: RangeInclusive<u32> = 1..=1000;

/// A bar for each way, in each group.
pub(crate) struct Bars {
    pub(crate) title: &'static str,
    /// By group, then by way.
    pub(crate) values: Vec<Vec<f64>>,
}

/// A curve.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Charts of lying bars, one below the other, each with its own scale.
pub(crate) fn bars(ways: &[String], groups: &[String], panels: &[Bars]) -> String {
    const BAR: usize = 20;
    const GROUP_GAP: usize = 14;
    const TITLE: usize = 40;
    const LEFT: usize = 250;
    const RIGHT: usize = 90;
    let panel_height = TITLE + groups.len() * (ways.len() * BAR + GROUP_GAP);
    draw(panels.len() * panel_height + 10, |area| {
        for (number, panel) in panels.iter().enumerate() {
            let top = number * panel_height;
            text(area, panel.title, 17, (20, top + TITLE / 2), HPos::Left);
            let most = panel.values.concat().into_iter().fold(0.0, f64::max);
            for (group, values) in panel.values.iter().enumerate() {
                let top = top + TITLE + group * (ways.len() * BAR + GROUP_GAP);
                let middle = top + ways.len() * BAR / 2;
                text(area, &groups[group], 14, (20, middle), HPos::Left);
                for (way, &value) in values.iter().enumerate() {
                    let top = top + way * BAR;
                    let room = (WIDTH - LEFT - RIGHT) as f64;
                    let end = LEFT + (value / most * room).round().max(1.0) as usize;
                    let bar =
                        Rectangle::new([at(LEFT, top + 2), at(end, top + BAR - 2)], COLOURS[way].filled());
                    area.draw(&bar).unwrap();
                    text(area, &ways[way], 13, (LEFT - 8, top + BAR / 2), HPos::Right);
                    text(area, &figure(value), 13, (end + 6, top + BAR / 2), HPos::Left);
                }
            }
        }
    })
}

/// Which share, in percent, of something is how much at most.
pub(crate) fn shares(title: &str, what: &str, lines: &[Line]) -> String {
    draw(400, |area| lines_on(area, title, what, "share of grants, %", 0.0..100.0, lines))
}

/// Curves over a count.
pub(crate) fn by_count(title: &str, what: &str, of: &str, lines: &[Line]) -> String {
    let most = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
    draw(380, |area| lines_on(area, title, what, of, 0.0..most * 1.1, lines))
}

/// Curves on a logarithmic scale from left to right and a linear one upwards.
fn lines_on(area: &Area<'_>, title: &str, x: &str, y: &str, range: std::ops::Range<f64>, lines: &[Line]) {
    text(area, title, 17, (20, 20), HPos::Left);
    legend(area, lines, 46);
    let xs = || lines.iter().flat_map(|line| &line.points).map(|point| point.0);
    let (least, most) = (xs().fold(f64::INFINITY, f64::min), xs().fold(0.0, f64::max));
    let plane = area.margin(68, 12, 12, 30);
    let mut chart = ChartBuilder::on(&plane)
        .x_label_area_size(46)
        .y_label_area_size(58)
        .build_cartesian_2d((least * 0.9..most * 1.1).log_scale(), range)
        .unwrap();
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 13).into_font().color(&INK))
        .axis_desc_style((FONT, 14).into_font().color(&INK))
        .x_label_formatter(&|&at| figure(at))
        .y_label_formatter(&|&at| figure(at))
        .draw()
        .unwrap();
    for (line, colour) in lines.iter().zip(COLOURS) {
        let points = line.points.iter().copied();
        chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2))).unwrap();
        if line.points.len() < 10 {
            chart.draw_series(points.map(|point| Circle::new(point, 4, colour.filled()))).unwrap();
        }
    }
}

/// The names of the curves in a row.
fn legend(area: &Area<'_>, lines: &[Line], top: usize) {
    let step = (WIDTH - 40) / lines.len();
    for (number, (line, colour)) in lines.iter().zip(COLOURS).enumerate() {
        let left = 20 + number * step;
        let mark = Rectangle::new([at(left, top - 3), at(left + 18, top + 1)], colour.filled());
        area.draw(&mark).unwrap();
        text(area, &line.name, 13, (left + 24, top), HPos::Left);
    }
}

fn draw(height: usize, content: impl FnOnce(&Area<'_>)) -> String {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
        area.fill(&WHITE).unwrap();
        content(&area);
        area.present().unwrap();
    }
    svg
}

/// A line of text that begins or ends at a point, and is level with it.
fn text(area: &Area<'_>, words: &str, size: u32, (x, y): (usize, usize), anchor: HPos) {
    let style = (FONT, size).into_font().color(&INK).pos(Pos::new(anchor, VPos::Center));
    area.draw(&Text::new(words.to_owned(), at(x, y), style)).unwrap();
}

/// A point of the picture, as the drawing has it.
fn at(x: usize, y: usize) -> (i32, i32) {
    (i32::try_from(x).unwrap(), i32::try_from(y).unwrap())
}

fn figure(value: f64) -> String {
    match value {
        10.0.. => format!("{value:.0}"),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        0.1.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
