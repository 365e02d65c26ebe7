//! Results of all rounds: medians, spread, ratios.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::peers::PeerKind;

/// Every figure of every round, in the order in which rows and metrics first came.
#[derive(Default)]
pub struct Results {
    order: Vec<(String, String)>,
    figures: BTreeMap<(String, String, PeerKind), Vec<f64>>,
}

impl Results {
    /// Adds one round's figure.
    pub fn add(&mut self, peer: PeerKind, row: &str, metric: &str, value: f64) {
        let key = (row.to_owned(), metric.to_owned());
        if !self.order.contains(&key) {
            self.order.push(key.clone());
        }
        self.figures.entry((key.0, key.1, peer)).or_default().push(value);
    }

    /// Everything, with the single figures.
    pub fn document(&self) -> Value {
        let figure = |((row, metric, peer), values): (&(String, String, PeerKind), &Vec<f64>)| {
            let (least, median, most) = spread(values);
            json!({
                "row": row, "metric": metric, "peer": peer.name(),
                "median": median, "min": least, "max": most, "values": values,
            })
        };
        json!({ "figures": self.figures.iter().map(figure).collect::<Vec<_>>() })
    }

    /// A table with a column for each peer and Ringlog's ratio to each other one.
    pub fn markdown(&self, peers: &[PeerKind]) -> String {
        let others: Vec<PeerKind> = peers.iter().copied().filter(|peer| *peer != PeerKind::Ringlog).collect();
        let with_ringlog = peers.contains(&PeerKind::Ringlog);
        let mut header = vec!["work".to_owned(), "figure".to_owned()];
        header.extend(peers.iter().map(|peer| format!("{}: median (min to max)", peer.name())));
        if with_ringlog {
            header.extend(others.iter().map(|peer| format!("Ringlog / {}", peer.name())));
        }
        let mut text = format!("| {} |\n|{}\n", header.join(" | "), " --- |".repeat(header.len()));
        for (row, metric) in &self.order {
            let of = |peer: PeerKind| self.figures.get(&(row.clone(), metric.clone(), peer));
            let mut cells = vec![row.clone(), metric.clone()];
            cells.extend(peers.iter().map(|peer| of(*peer).map_or("–".to_owned(), |values| cell(values))));
            if with_ringlog {
                let ours = of(PeerKind::Ringlog).map(|values| spread(values).1);
                cells.extend(others.iter().map(|peer| {
                    let theirs = of(*peer).map(|values| spread(values).1).filter(|median| *median != 0.0);
                    ours.zip(theirs)
                        .map_or("–".to_owned(), |(ours, theirs)| format!("{:.2}", ours / theirs))
                }));
            }
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
        text
    }
}

fn cell(values: &[f64]) -> String {
    let (least, median, most) = spread(values);
    format!("{} ({} to {})", shown(median), shown(least), shown(most))
}

/// Three significant digits, without an exponent.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

/// Least, median and greatest value.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    assert!(!values.is_empty(), "a figure has at least one value");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let median =
        if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    (sorted[0], median, sorted[sorted.len() - 1])
}
