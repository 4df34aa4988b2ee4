//! The way that led to a failure.

use super::steps::Step;

/// What has happened so far. It is shown, under its title, when a test fails on the way.
pub(crate) struct Trace {
    pub(crate) title: String,
    pub(crate) steps: Vec<Step>,
}

/// The most steps that are shown, the last ones.
const SHOWN: usize = 30;

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}, {} steps, the last of them:", self.title, self.steps.len());
            let skipped = self.steps.len().saturating_sub(SHOWN);
            self.steps.iter().skip(skipped).for_each(|step| eprintln!("  {step:?}"));
        }
    }
}
