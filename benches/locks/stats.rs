//! Medians, percentiles, and how they are written.

/// The middle of some figures; of an even count the lower of the two middle ones. There must be one at least.
pub(crate) fn median(figures: &[f64]) -> f64 {
    percentile(figures, 50.0)
}

/// The median of each round.
pub(crate) fn medians(rounds: &[Vec<f64>]) -> Vec<f64> {
    rounds.iter().map(|round| median(round)).collect()
}

/// The smallest figure that so many percent of them do not exceed. There must be one at least.
pub(crate) fn percentile(figures: &[f64], percent: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// A percentile of each round, and of these the median: one round in which the machine was busy does not show.
pub(crate) fn typical(rounds: &[Vec<f64>], percent: f64) -> f64 {
    let figures: Vec<f64> = rounds.iter().map(|round| percentile(round, percent)).collect();
    median(&figures)
}

/// `left / right` round by round: what slows both in a round drops out.
pub(crate) fn ratios(left: &[f64], right: &[f64]) -> Vec<f64> {
    left.iter().zip(right).map(|(left, right)| left / right).collect()
}

/// The median, the lowest and the highest.
pub(crate) fn spread(figures: &[f64]) -> String {
    format!("{:.2} ({:.2} to {:.2})", median(figures), percentile(figures, 0.0), percentile(figures, 100.0))
}

/// A count with its thousands parted.
pub(crate) fn count(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

/// Jain's index of fairness: 1 where all shares are equal, 1/n where one has got all.
pub(crate) fn jain(shares: &[usize]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), &share| {
        let share = share as f64;
        (sum + share, squares + share * share)
    });
    sum * sum / (shares.len() as f64 * squares)
}
