//! What there is to say at the end, to people and to programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::book::{Page, ms};
use crate::cell::{Cell, Fault, Language, Phase};
use crate::service::Holdings;

/// Beside what is in the book.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) seed: u64,
    pub(crate) time: Duration,
    /// In words.
    pub(crate) leaks: Vec<String>,
    /// Cells that nobody was struck in.
    pub(crate) empty: Vec<String>,
    /// Times that work was given to another worker.
    pub(crate) replays: u64,
    pub(crate) before: Holdings,
    pub(crate) after: Holdings,
}

/// From so long on every cell has to be filled.
const COMPLETE: Duration = Duration::from_secs(480);

// === impl Verdict ===

impl Verdict {
    pub(crate) fn all_held(&self, page: &Page) -> bool {
        let is_complete = self.empty.is_empty() || self.time < COMPLETE;
        page.breach_count == 0 && self.leaks.is_empty() && is_complete
    }

    /// For people, and as JSON in the last line.
    pub(crate) fn print(&self, page: &Page) {
        print_strikes(page);
        println!("\ncalls {}, served {}, replays {}", page.asked, page.served, self.replays);
        page.errors.iter().for_each(|(kind, count)| println!("  {kind}: {count}"));
        println!("broken off by {} kills of the gateway: {}", page.gateway_kills, page.broken_off);
        for (what, (count, [p50, p99, longest])) in page.answered_ms() {
            println!("{what}: p50 {p50} ms, p99 {p99} ms, longest {longest} ms of {count}");
        }
        for (what, is_below) in page.is_prompt() {
            let words = match is_below {
                Some(true) => "held",
                Some(false) => "NOT HELD",
                None => "too few to tell",
            };
            println!("{what}, p99 below 50 ms: {words}");
        }
        if let Some((of, took)) = page.slowest_recovery() {
            println!("slowest recovery: {:.0} ms, {of}", ms(*took));
        }
        let Self { leaks, empty, before, after, .. } = self;
        let heaps = [before, after].map(|held| megabytes(held.gateway_heap_bytes));
        println!(
            "gateway: {:.1} MB to {:.1} MB, {} fds to {}; files {} to {}, links {} to {}",
            heaps[0],
            heaps[1],
            before.gateway_fds,
            after.gateway_fds,
            before.files,
            after.files,
            before.links,
            after.links
        );
        println!("lost {}, leaked {}, empty cells {}", page.breach_count, leaks.len(), empty.len());
        page.breaches.iter().chain(leaks).for_each(|what| println!("  {what}"));
        empty.iter().for_each(|cell| println!("  empty: {cell}"));
        println!("{}", self.summary(page));
    }

    fn summary(&self, page: &Page) -> Value {
        let growth = i128::from(self.after.gateway_heap_bytes) - i128::from(self.before.gateway_heap_bytes);
        let mut summary = page.summary();
        summary["seed"] = json!(self.seed);
        summary["minutes"] = json!(self.time.as_secs_f64() / 60.0);
        summary["leaked"] = json!(self.leaks);
        summary["empty_cells"] = json!(self.empty.len());
        summary["replays"] = json!(self.replays);
        summary["gateway_heap_growth_bytes"] = json!(growth);
        summary["all_held"] = json!(self.all_held(page));
        summary
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn print_strikes(page: &Page) {
    println!("\ndeaths and pauses, by fault and phase:");
    let heads: String = Phase::ALL.iter().map(|phase| format!("{:>12}", format!("{phase:?}"))).collect();
    println!("{:>16}{heads}", "");
    for language in [Language::Rust, Language::Python] {
        for fault in Fault::ALL {
            let counts = Phase::ALL.map(|phase| page.strikes.get(&Cell { fault, phase, language }));
            if counts.iter().any(Option::is_some) {
                let shown = counts.map(|count| count.map_or("-".to_owned(), u64::to_string));
                let row: String = shown.iter().map(|count| format!("{count:>12}")).collect();
                println!("{:>16}{row}", format!("{language:?} {fault:?}"));
            }
        }
    }
}
