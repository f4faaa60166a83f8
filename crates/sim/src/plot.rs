//! Plots, as texts of SVG.

use std::collections::BTreeSet;

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
    outcome.results.plots().map(distinct)
}

/// The same plots, each with a file name of its own: `"a b"` and `"a-b"` are both `a-b` as names
/// of files, and one would overwrite the other. Repeated names are numbered, `a-b-2`.
pub(crate) fn distinct(plots: Vec<Plot>) -> Vec<Plot> {
    let mut free: BTreeSet<String> = plots.iter().map(|plot| plot.name.clone()).collect();
    let mut taken = BTreeSet::new();
    let mut name_of = |name: String| {
        // Whose name it is, and not the number of another's, keeps it.
        if free.remove(&name) {
            taken.insert(name.clone());
            return name;
        }
        let numbered = (2_u64..).map(|number| format!("{name}-{number}"));
        let mut open = numbered.filter(|name| !free.contains(name) && !taken.contains(name));
        let name = open.next().expect("numbers do not end");
        taken.insert(name.clone());
        name
    };
    plots.into_iter().map(|plot| Plot { name: name_of(plot.name), ..plot }).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_plot_overwrites_another() {
        let named = |names: &[&str]| {
            let plot = |name: &&str| Plot { name: (*name).to_owned(), svg: String::new() };
            let plots = distinct(names.iter().map(plot).collect());
            plots.into_iter().map(|plot| plot.name).collect::<Vec<_>>()
        };
        assert_eq!(named(&["a", "b"]), ["a", "b"]);
        assert_eq!(named(&["a", "a", "b", "a"]), ["a", "a-2", "b", "a-3"]);
        // A name that looks like a number of another keeps it.
        assert_eq!(named(&["a", "a", "a-2", "a-2"]), ["a", "a-3", "a-2", "a-2-2"]);
    }
}
