//! Plots, as texts of SVG.

use plotters::prelude::*;

use crate::{SimError, outcome::Outcome};

/// A plot and the name of its file, without the ending.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plot {
    /// `comes-back-128MiB`.
    pub name: String,
    /// The text of the file.
    pub svg: String,
}

/// One line of a plot: its name and its points.
pub(crate) type Line = (String, Vec<(f64, f64)>);

/// The plots of an outcome.
///
/// # Errors
/// [`SimError::Plot`] when the plotting library refuses one.
pub fn plots(outcome: &Outcome) -> Result<Vec<Plot>, SimError> {
    outcome.results.plots()
}

/// Bytes on an axis of GiB.
pub(crate) const fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1_u64 << 30) as f64
}

/// Lines over one another, both axes from 0.
pub(crate) fn draw(title: &str, axes: [&str; 2], lines: &[Line]) -> Result<String, SimError> {
    fn wrong(error: impl std::fmt::Display) -> SimError {
        SimError::Plot(error.to_string())
    }
    let points = || lines.iter().flat_map(|(_, points)| points);
    let x_max = points().map(|point| point.0).fold(1.0, f64::max);
    let y_max = points().map(|point| point.1).fold(1.0, f64::max) * 1.05;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (960, 540)).into_drawing_area();
        area.fill(&WHITE).map_err(wrong)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 22))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..x_max, 0.0..y_max)
            .map_err(wrong)?;
        chart.configure_mesh().x_desc(axes[0]).y_desc(axes[1]).draw().map_err(wrong)?;
        for (number, (name, points)) in lines.iter().enumerate() {
            let style = Palette99::pick(number).stroke_width(2);
            let line = LineSeries::new(points.iter().copied(), style).point_size(3);
            let line = chart.draw_series(line).map_err(wrong)?;
            line.label(name.as_str()).legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 18, y)], Palette99::pick(number).stroke_width(2))
            });
        }
        let mut labels = chart.configure_series_labels();
        let labels = labels.position(SeriesLabelPosition::LowerRight);
        labels.background_style(WHITE.mix(0.8)).border_style(BLACK).draw().map_err(wrong)?;
        area.present().map_err(wrong)?;
    }
    Ok(svg)
}
