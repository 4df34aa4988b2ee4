//! What a scenario found, as text for the terminal and as a page for the documentation.

use std::fmt::Write as _;

/// A scenario's part of the report.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// What was measured and how: paragraphs of Markdown.
    pub(crate) method: String,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) targets: Vec<Target>,
    pub(crate) plots: Vec<Plot>,
}

/// A picture beside the page.
pub(crate) struct Plot {
    /// The name of its file.
    pub(crate) file: &'static str,
    /// What it shows, for who does not see it.
    pub(crate) alt: String,
    pub(crate) svg: String,
}

/// A figure and what it should be.
pub(crate) struct Target {
    /// What the figure is, understandable without its section.
    pub(crate) name: String,
    pub(crate) figure: f64,
    pub(crate) unit: &'static str,
    pub(crate) bound: Bound,
}

/// What a figure should be.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    /// No less than this.
    Floor(f64),
    /// No more than this.
    Ceiling(f64),
}

impl Target {
    fn is_met(&self) -> bool {
        match self.bound {
            Bound::Floor(floor) => self.figure >= floor,
            Bound::Ceiling(ceiling) => self.figure <= ceiling,
        }
    }

    fn row(&self) -> Vec<String> {
        let unit = self.unit;
        let bound = match self.bound {
            Bound::Floor(floor) => format!("at least {} {unit}", shortest(floor)),
            Bound::Ceiling(ceiling) => format!("at most {ceiling} {unit}"),
        };
        let verdict = if self.is_met() { "met" } else { "missed" };
        let measured = format!("{:.2} {unit}", self.figure);
        let cells = [&self.name, measured.trim_end(), bound.trim_end(), verdict];
        cells.map(str::to_owned).to_vec()
    }
}

/// With one digit after the point, or as many as it takes.
fn shortest(figure: f64) -> String {
    let text = figure.to_string();
    if text.contains('.') { text } else { format!("{figure:.1}") }
}

const TARGET_COLUMNS: [&str; 4] = ["figure", "measured", "target", ""];

impl Section {
    /// For the terminal.
    pub(crate) fn as_text(&self) -> String {
        format!("\n== {} ==\n{}", self.title, table_as_text(&self.columns, &self.rows))
    }

    fn as_markdown(&self) -> String {
        let mut page = format!("## {}\n\n", self.title);
        for paragraph in self.method.split("\n\n") {
            page.push_str(&wrap(paragraph));
            page.push('\n');
        }
        page + &table_as_markdown(&self.columns, &self.rows)
    }
}

/// All targets, for the terminal.
pub(crate) fn targets_as_text(sections: &[Section]) -> String {
    format!("\n== Targets ==\n{}", table_as_text(&TARGET_COLUMNS, &target_rows(sections)))
}

/// Names and values, for the terminal.
pub(crate) fn pairs_as_text(pairs: &[(&str, String)]) -> String {
    pairs.iter().fold(String::new(), |text, (name, value)| text + &format!("{name:<10} {value}\n"))
}

/// The page for readers: what matters in pictures, then all that was measured.
pub(crate) fn as_markdown(machine: &[(&'static str, String)], sections: &[Section]) -> String {
    let mut page = "# Benchmarks\n\n".to_owned();
    page += &wrap(
        "`make bench` writes this page. The figures are of one machine, named below, on one day; they promise \
         nothing about another. What they are good for is to compare: where two ways of doing a thing are set \
         against each other, both were measured in the same run, in turns, most of them on the same server process. \
         [peers.md](peers.md) has what other libraries do, and [benchmarks-targets.md](benchmarks-targets.md), for \
         developers, what each figure ought to be.",
    );
    page += "\n## In short\n\n";
    page += &wrap(SHORT);
    for plot in sections.iter().flat_map(|section| &section.plots) {
        page += &format!("\n![{}]({})\n", plot.alt, plot.file);
    }
    page += "\n## The machine\n\n";
    page += &machine_as_markdown(machine);
    for section in sections {
        page.push('\n');
        page += &section.as_markdown();
    }
    page
}

/// What the pictures show.
const SHORT: &str = "Where clients contend for a lock, the server's queue serves more of them, and for less of its CPU, than \
    clients that ask again and again. All wait alike, where polling leaves some waiting for very long. And a lock is handed over \
    in the time of a round trip, however long the queue is.";

/// The page for developers: what each figure ought to be, and whether it is.
pub(crate) fn targets_as_markdown(machine: &[(&'static str, String)], sections: &[Section]) -> String {
    let mut page = "# Targets\n\n".to_owned();
    page += &wrap(
        "`make bench` writes this page, for who changes the module. [benchmarks.md](benchmarks.md) says how each figure was \
         measured. The ones that were missed come first.",
    );
    page.push('\n');
    page += &machine_as_markdown(machine);
    let (missed, met): (Vec<&Target>, Vec<&Target>) =
        sections.iter().flat_map(|section| &section.targets).partition(|target| !target.is_met());
    for (title, targets) in [("Missed", missed), ("Met", met)] {
        page += &format!("\n## {title}\n\n");
        let rows: Vec<Vec<String>> = targets.into_iter().map(Target::row).collect();
        page += &table_as_markdown(&TARGET_COLUMNS, &rows);
    }
    page
}

fn machine_as_markdown(machine: &[(&'static str, String)]) -> String {
    let machine: Vec<Vec<String>> =
        machine.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]).collect();
    table_as_markdown(&["machine", ""], &machine)
}

fn target_rows(sections: &[Section]) -> Vec<Vec<String>> {
    sections.iter().flat_map(|section| &section.targets).map(Target::row).collect()
}

fn table_as_text(columns: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(columns[column].chars().count())
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    let titles: Vec<String> = columns.iter().map(|&title| title.to_owned()).collect();
    for row in [&titles].into_iter().chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:<width$}  ").unwrap();
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn table_as_markdown(columns: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | ").trim_end());
    let mut text = line(columns);
    text += &line(&vec!["---"; columns.len()]);
    for row in rows {
        text += &line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    text
}

/// Longest line of running text.
const LINE: usize = 110;

/// Breaks a paragraph into lines.
fn wrap(paragraph: &str) -> String {
    let mut text = String::new();
    let mut column = 0;
    for word in paragraph.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > LINE {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text += word;
        column += length;
    }
    text.push('\n');
    text
}
