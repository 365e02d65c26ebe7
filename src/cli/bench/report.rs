//! What a benchmark found, for people and as the JSON that cli.md fixes.

use serde_json::{Map, Value, json};

use super::meter::Measured;
use super::stats::Counts;
use crate::cli::failure::Failure;
use crate::cli::output::{print_json, print_line};

/// A finished run.
pub struct Report {
    /// What was done, in words.
    pub title: String,
    /// The settings, as JSON fields.
    pub settings: Map<String, Value>,
    /// Counts of all threads.
    pub counts: Counts,
    /// Latency and CPU time.
    pub measured: Measured,
}

impl Report {
    fn seconds(&self) -> f64 {
        (self.measured.window_ns as f64 / 1e9).max(1e-9)
    }

    fn quantile_us(&self, quantile: f64) -> f64 {
        tenths(self.measured.latency.value_at_quantile(quantile) as f64 / 1e3)
    }

    fn broker_cpu_s(&self) -> Option<f64> {
        self.measured.broker_cpu_ms.map(|ms| ms as f64 / 1e3)
    }

    fn broker_cpu_s_per_gb(&self) -> Option<f64> {
        self.broker_cpu_s().filter(|_| self.counts.bytes > 0).map(|s| s / (self.counts.bytes as f64 / 1e9))
    }

    fn broker_cpu_us_per_request(&self) -> Option<f64> {
        self.broker_cpu_s()
            .filter(|_| self.counts.requests > 0)
            .map(|s| s * 1e6 / self.counts.requests as f64)
    }

    /// The JSON document.
    pub fn document(&self) -> Value {
        let rate = |count: u64| tenths(count as f64 / self.seconds());
        let mut document = self.settings.clone();
        let results = json!({
            "duration_s": self.seconds(),
            "records": self.counts.records,
            "bytes": self.counts.bytes,
            "requests": self.counts.requests,
            "records_per_s": rate(self.counts.records),
            "requests_per_s": rate(self.counts.requests),
            "mb_per_s": self.counts.bytes as f64 / 1e6 / self.seconds(),
            "p50_us": self.quantile_us(0.5),
            "p90_us": self.quantile_us(0.9),
            "p99_us": self.quantile_us(0.99),
            "p999_us": self.quantile_us(0.999),
            "max_us": tenths(self.measured.latency.max() as f64 / 1e3),
            "errors": self.counts.errors + self.counts.unanswered,
            "unanswered": self.counts.unanswered,
            "first_error": self.counts.first_error,
            "broker_cpu_s": self.broker_cpu_s(),
            "broker_cpu_s_per_gb": self.broker_cpu_s_per_gb(),
            "broker_cpu_us_per_request": self.broker_cpu_us_per_request(),
            "client_cpu_s": self.measured.client_cpu_ms as f64 / 1e3,
        });
        let Value::Object(results) = results else { unreachable!("it was written as an object") };
        document.extend(results);
        Value::Object(document)
    }

    /// Prints it, and fails where nothing at all was measured.
    pub fn print(&self, json: bool) -> Result<(), Failure> {
        if let Some(first) = &self.counts.first_error {
            eprintln!("ringlog: {} errors, the first: {first}", self.counts.errors);
        }
        if json {
            print_json(&self.document())?;
        } else {
            print_line(&self.text())?;
        }
        match self.counts.requests {
            0 => Err(Failure::failed(
                "no request was answered in the measured time; see above, or raise --duration",
            )),
            _ => Ok(()),
        }
    }

    fn text(&self) -> String {
        let counts = &self.counts;
        let per_s = |count: u64| count as f64 / self.seconds();
        let ms = |quantile: f64| self.quantile_us(quantile) / 1e3;
        let mut text = format!(
            "{}\n{:.1} MB/s  {:.0} records/s  {:.0} requests/s  in {:.1} s  errors {}",
            self.title,
            counts.bytes as f64 / 1e6 / self.seconds(),
            per_s(counts.records),
            per_s(counts.requests),
            self.seconds(),
            counts.errors + counts.unanswered,
        );
        if counts.unanswered > 0 {
            text.push_str(&format!(" ({} never answered)", counts.unanswered));
        }
        text.push_str(&format!(
            "\nlatency     p50 {:.3} ms  p90 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3}",
            ms(0.5),
            ms(0.9),
            ms(0.99),
            ms(0.999),
            self.measured.latency.max() as f64 / 1e6
        ));
        if let (Some(per_gb), Some(each)) = (self.broker_cpu_s_per_gb(), self.broker_cpu_us_per_request()) {
            text.push_str(&format!("\nbroker CPU  {per_gb:.3} s/GB  {each:.1} us/request"));
        }
        text.push_str(&format!("\nclient CPU  {:.2} s", self.measured.client_cpu_ms as f64 / 1e3));
        text
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::stats::new_histogram;

    fn report() -> Report {
        let mut latency = new_histogram();
        (1..=1000u64).for_each(|us| latency.record(us * 1_000).unwrap());
        let counts = Counts { requests: 1_000, records: 63_000, bytes: 2_000_000_000, ..Counts::default() };
        let measured =
            Measured { latency, broker_cpu_ms: Some(4_000), client_cpu_ms: 10, window_ns: 10_000_000_000 };
        Report { title: "t".into(), settings: Map::new(), counts, measured }
    }

    #[test]
    fn the_fields_of_cli_md_are_there_in_their_units() {
        let document = report().document();
        for (name, expected) in [
            ("records_per_s", 6_300.0),
            ("mb_per_s", 200.0),
            ("p50_us", 500.0),
            ("p99_us", 990.0),
            ("p999_us", 999.0),
            ("max_us", 1_000.0),
            ("errors", 0.0),
            ("broker_cpu_s_per_gb", 2.0),
            ("broker_cpu_us_per_request", 4_000.0),
            ("client_cpu_s", 0.01),
        ] {
            let value = document[name].as_f64().unwrap();
            assert!((value - expected).abs() <= expected * 0.002, "{name}: {value}");
        }
    }

    #[test]
    fn without_a_pid_there_is_no_broker_cpu() {
        let mut report = report();
        report.measured.broker_cpu_ms = None;
        assert!(report.document()["broker_cpu_s_per_gb"].is_null());
        assert!(!report.text().contains("broker CPU"));
    }
}
