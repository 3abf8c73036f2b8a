//! The text format of Prometheus, read as strictly as its checker reads it.

use std::collections::{BTreeMap, BTreeSet};

/// All that a gateway told of itself.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    families: BTreeMap<String, Family>,
    samples: BTreeMap<String, f64>,
}

#[derive(Debug, Default)]
struct Family {
    help: String,
    kind: String,
}

/// What a name may end with, since it says the unit or the kind.
const ENDINGS: [&str; 8] =
    ["_total", "_seconds", "_bytes", "_blocks", "_info", "_sessions", "_workers", "_connections"];

// === impl Exposition ===

impl Exposition {
    /// # Panics
    /// A line breaks the format or the conventions.
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut all = Self::default();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("HELP has a name and words");
                let family = Family { help: help.to_owned(), kind: String::new() };
                assert!(all.families.insert(name.to_owned(), family).is_none(), "{name} comes twice");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("TYPE has a name and a kind");
                let family =
                    all.families.get_mut(name).unwrap_or_else(|| panic!("{name} has no HELP before"));
                kind.clone_into(&mut family.kind);
            } else {
                all.sample(line);
            }
        }
        all.families.iter().for_each(|(name, family)| family.check(name));
        all.check_histograms();
        all
    }

    /// A sample by its name with its labels in order; 0 if there is none, as a counter begins.
    pub(crate) fn value(&self, series: &str) -> f64 {
        self.samples.get(series).copied().unwrap_or_default()
    }

    /// Whether there is a sample of the family.
    pub(crate) fn has(&self, family: &str) -> bool {
        self.families.contains_key(family)
    }

    fn sample(&mut self, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} is no sample"));
        let name = series.split('{').next().unwrap_or_default();
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.starts_with("remotemedia_") && name.chars().all(fits), "{name:?} is no name");
        if let Some(labels) = series.strip_prefix(name).and_then(|rest| rest.strip_prefix('{')) {
            let labels = labels.strip_suffix("\"}").unwrap_or_else(|| panic!("{line:?}: labels do not end"));
            for label in labels.split("\",") {
                let (key, _value) =
                    label.split_once("=\"").unwrap_or_else(|| panic!("{line:?}: a label is none"));
                assert!(key.chars().all(fits), "{line:?}: {key:?} is no label");
            }
        }
        let value =
            if value == "+Inf" { f64::INFINITY } else { value.parse().expect("a sample is a number") };
        assert!(self.family_of(name).is_some(), "{name} has no HELP and TYPE before it");
        assert!(self.samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
    }

    fn family_of(&self, name: &str) -> Option<&Family> {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        let histogram =
            base.and_then(|base| self.families.get(base)).filter(|family| family.kind == "histogram");
        histogram.or_else(|| self.families.get(name).filter(|family| !family.kind.is_empty()))
    }

    /// Buckets only grow, and the last holds all.
    fn check_histograms(&self) {
        let buckets = self.samples.iter().filter_map(|(series, value)| {
            let (name, labels) = series.split_once("_bucket{")?;
            let (labels, bound) = labels.split_once("le=\"")?;
            let bound = bound.trim_end_matches("\"}");
            let bound =
                if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a bound is a number") };
            Some((format!("{name} {labels}"), (bound, *value, name, labels.trim_end_matches(','))))
        });
        let mut by_series: BTreeMap<String, Vec<(f64, f64, &str, &str)>> = BTreeMap::new();
        buckets.for_each(|(series, bucket)| by_series.entry(series).or_default().push(bucket));
        for (series, mut buckets) in by_series {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{series}: a bucket shrinks");
            let (bound, all, name, labels) = buckets[buckets.len() - 1];
            let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            assert_eq!(
                (bound, all),
                (f64::INFINITY, self.value(&format!("{name}_count{labels}"))),
                "{series}"
            );
            assert!(self.samples.contains_key(&format!("{name}_sum{labels}")), "{series} has no sum");
        }
    }
}

// === impl Family ===

impl Family {
    fn check(&self, name: &str) {
        assert!(self.help.len() > 10, "{name} has no help: {:?}", self.help);
        let kinds = BTreeSet::from(["counter", "gauge", "histogram"]);
        assert!(kinds.contains(self.kind.as_str()), "{name} is of kind {:?}", self.kind);
        assert_eq!(self.kind == "counter", name.ends_with("_total"), "{name} is a {}", self.kind);
        assert!(ENDINGS.iter().any(|ending| name.ends_with(ending)), "{name} does not say its unit");
    }
}
