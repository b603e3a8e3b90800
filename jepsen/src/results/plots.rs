//! `latency-raw.svg` (one point an operation, coloured by outcome) and `rate.svg` (operations a second by kind and outcome), with the
//! time from each fault's begin to its healing shaded.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use stanchion_proof::journal::{Completion, Line, Operation, operations};

use crate::faults::nemesis::Span;

const SIZE: (u32, u32) = (1_200, 500);
/// Points beyond this are thinned out evenly: the picture is the same and opens quickly.
const POINTS_MAX: usize = 20_000;
const OK: RGBColor = RGBColor(0x2a, 0x7f, 0xb8);
const FAIL: RGBColor = RGBColor(0xd6, 0x6a, 0xb0);
const INFO: RGBColor = RGBColor(0xf0, 0x9a, 0x2f);
const HARMED: RGBColor = RGBColor(0xc8, 0xb4, 0xb4);
const RECOVERING: RGBColor = RGBColor(0xe6, 0xde, 0xc8);

pub fn draw(out: &Path, lines: &[Line], spans: &[Span]) -> Result<()> {
    let operations = operations(lines);
    let end = lines.last().map_or(1.0, |line| seconds(line.time)).max(1.0);
    latency(&out.join("latency-raw.svg"), &operations, spans, end)
        .map_err(|error| anyhow!("latency-raw.svg: {error}"))?;
    rate(&out.join("rate.svg"), &operations, spans, end).map_err(|error| anyhow!("rate.svg: {error}"))
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// Outcome and time of the end; None while pending.
fn end_of(operation: &Operation) -> Option<(&'static str, u64)> {
    match &operation.completion {
        Completion::Ok { at, .. } => Some(("ok", *at)),
        Completion::Fail { at, .. } => Some(("fail", *at)),
        Completion::Info { at, .. } => Some(("info", *at)),
        Completion::Pending => None,
    }
}

fn latency(path: &Path, operations: &[Operation], spans: &[Span], end: f64) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (low, high) = (0.1, 30_000.0);
    let mut chart = ChartBuilder::on(&root)
        .caption("latency of each operation by the time of its invocation", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..end, (low..high).log_scale())?;
    chart.configure_mesh().light_line_style(WHITE).x_desc("seconds").y_desc("ms").draw()?;
    chart.draw_series(shades(spans, low, high))?;
    let step = operations.len().div_ceil(POINTS_MAX).max(1);
    for (outcome, colour) in [("ok", OK), ("fail", FAIL), ("info", INFO)] {
        let mut points = Vec::new();
        for operation in operations.iter().step_by(step) {
            let Some((_, at)) = end_of(operation).filter(|(name, _)| *name == outcome) else { continue };
            let took = at.saturating_sub(operation.invoked) as f64 / 1e6;
            points.push((seconds(operation.invoked), took.clamp(low, high)));
        }
        let dots = points.into_iter().map(|(x, y)| Circle::new((x, y), 2, colour.mix(0.7).filled()));
        chart.draw_series(dots)?.label(outcome).legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    root.present()?;
    Ok(())
}

fn rate(path: &Path, operations: &[Operation], spans: &[Span], end: f64) -> Result<(), Box<dyn std::error::Error>> {
    let mut series: BTreeMap<(String, &'static str), Vec<u64>> = BTreeMap::new();
    let buckets = end.ceil() as usize + 1;
    for operation in operations {
        let Some((outcome, at)) = end_of(operation) else { continue };
        let counts = series.entry((operation.f.clone(), outcome)).or_insert_with(|| vec![0; buckets]);
        if let Some(count) = counts.get_mut(seconds(at) as usize) {
            *count += 1;
        }
    }
    let most = series.values().flatten().copied().max().unwrap_or(1).max(1) as f64 * 1.1;
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("operations ended in each second", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..end, 0.0..most)?;
    chart.configure_mesh().light_line_style(WHITE).x_desc("seconds").y_desc("operations/s").draw()?;
    chart.draw_series(shades(spans, 0.0, most))?;
    for (at, ((f, outcome), counts)) in series.iter().enumerate() {
        let colour = Palette99::pick(at).to_rgba();
        let points = counts.iter().enumerate().map(|(second, count)| (second as f64 + 0.5, *count as f64));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(format!("{f} {outcome}"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    root.present()?;
    Ok(())
}

/// Dark while the harm lasts, light until all nodes served again.
fn shades(spans: &[Span], low: f64, high: f64) -> Vec<Rectangle<(f64, f64)>> {
    let area = |from: u64, to: u64, colour: RGBColor| {
        Rectangle::new([(seconds(from), low), (seconds(to), high)], colour.mix(0.45).filled())
    };
    spans
        .iter()
        .flat_map(|span| [area(span.from, span.healed, HARMED), area(span.healed, span.to, RECOVERING)])
        .collect()
}
