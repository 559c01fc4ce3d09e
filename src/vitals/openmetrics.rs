//! Writes figures as `OpenMetrics` text: <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>.
//!
//! A family at a time, with its type, unit and help; the samples of a family stand together, and the text ends with `# EOF`.

use std::fmt::Write as _;

/// What the text is, for the header of the answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a family measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows.
    Counter,
    /// How many and how much together.
    Summary,
    /// What something is, in its labels.
    Info,
}

/// A text in the making.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// The samples of one family.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    kind: Kind,
}

impl Exposition {
    /// Begins a family. Where it has a unit, its name ends with it, as the format demands.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let word = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Summary => "summary",
            Kind::Info => "info",
        };
        // Writing to a text cannot fail.
        let _ = writeln!(self.text, "# TYPE {name} {word}");
        for unit in ["seconds", "bytes"] {
            if name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')) {
                let _ = writeln!(self.text, "# UNIT {name} {unit}");
            }
        }
        let _ = writeln!(self.text, "# HELP {name} {}", escaped(help));
        Family { text: &mut self.text, name, kind }
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }
}

impl Family<'_> {
    /// A gauge's value, a counter's total, or an info (which is 1).
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let suffix = match self.kind {
            Kind::Gauge => "",
            Kind::Counter => "_total",
            Kind::Summary => "_count",
            Kind::Info => "_info",
        };
        self.write(suffix, labels, value);
    }

    /// A summary's count and sum.
    pub fn summary(&mut self, labels: &[(&str, &str)], count: f64, sum: f64) {
        self.write("_count", labels, count);
        self.write("_sum", labels, sum);
    }

    fn write(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let braces = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{suffix}{braces} {value}", self.name);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_the_format_demands() {
        let mut exposition = Exposition::default();
        exposition.family("a_build", Kind::Info, "What it is").sample(&[("version", "1 \"x\"\\\n")], 1.0);
        exposition.family("a_wait_seconds", Kind::Summary, "How long").summary(&[], 2.0, 0.25);
        let mut runs = exposition.family("a_runs", Kind::Counter, "How many");
        runs.sample(&[("job", "x"), ("state", "done")], 3.0);
        runs.sample(&[("job", "y"), ("state", "done")], 0.0);
        assert_eq!(
            exposition.finish(),
            "# TYPE a_build info\n# HELP a_build What it is\na_build_info{version=\"1 \\\"x\\\"\\\\\\n\"} 1\n\
             # TYPE a_wait_seconds summary\n# UNIT a_wait_seconds seconds\n# HELP a_wait_seconds How long\n\
             a_wait_seconds_count 2\na_wait_seconds_sum 0.25\n\
             # TYPE a_runs counter\n# HELP a_runs How many\na_runs_total{job=\"x\",state=\"done\"} 3\n\
             a_runs_total{job=\"y\",state=\"done\"} 0\n# EOF\n"
        );
    }
}
