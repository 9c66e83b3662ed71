//! Ridge plot: distributions one behind the other, the oldest at the back.

use super::Curve;
use crate::plot::{self, Area, Plot, range, short};
use bdh::BoxError;
use plotters::chart::ChartBuilder;
use plotters::element::{PathElement, Polygon, Text};
use plotters::style::{Color, RGBColor, WHITE};

/// Width and height in pixels.
const SIZE: (u32, u32) = (880, 640);

/// Pixels to the right of the curves, for the labels of their steps.
const LABELS: u32 = 96;

/// Least number of pixels from one label to the next.
const LABEL: f64 = 15.0;

/// Approximate height of the plot in pixels.
const HEIGHT: f64 = 530.0;

/// Distributions of one parameter, in the order of steps.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) curves: Vec<Curve>,
}

impl Chart {
    /// Draws the picture as a PNG.
    pub(super) fn draw(&self) -> Result<Vec<u8>, BoxError> {
        plot::png(SIZE, |root| {
            let extents = self.curves.iter().map(|curve| curve.extent);
            let (low, high) = range(extents.flat_map(|(low, high)| [low, high]));
            let mut chart = self.axes(root, low, high)?;
            for (row, curve) in self.curves.iter().enumerate() {
                self.ridge(&mut chart, row, curve)?;
            }
            self.labels(root, &chart, high)
        })
    }

    /// Draws caption, axis and grid for weights from `low` to `high`.
    fn axes<'a, 'b>(
        &self,
        root: &'a Area<'b>,
        low: f64,
        high: f64,
    ) -> Result<Plot<'a, 'b>, BoxError> {
        let mut chart = ChartBuilder::on(root)
            .caption(self.caption(), ("plot", 20))
            .margin(12)
            .margin_right(LABELS)
            .x_label_area_size(48)
            .build_cartesian_2d(low..high, 0.0..1.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .x_desc("Weight value (each curve scaled to its own peak)")
            .bold_line_style(RGBColor(0, 0, 0).mix(0.15))
            .light_line_style(WHITE.mix(0.0))
            .label_style(("plot", 15))
            .axis_desc_style(("plot", 15))
            .x_label_formatter(&|value| short(*value, high - low))
            .draw()?;
        Ok(chart)
    }

    fn caption(&self) -> String {
        match (self.curves.first(), self.curves.last()) {
            (Some(oldest), Some(newest)) => {
                format!("{}, steps {} to {}", self.title, oldest.step, newest.step)
            }
            _ => self.title.clone(),
        }
    }

    /// Draws one curve, filled, so that it hides the curves behind it.
    fn ridge(&self, chart: &mut Plot<'_, '_>, row: usize, curve: &Curve) -> Result<(), BoxError> {
        let mut line = outline(curve);
        for (_, y) in &mut line {
            *y = self.base(row) + *y * self.height();
        }
        let color = self.color(row);
        chart.draw_series([Polygon::new(line.clone(), color.filled())])?;
        let edge = RGBColor(color.0 / 2, color.1 / 2, color.2 / 2);
        chart.draw_series([PathElement::new(line, edge.stroke_width(1))])?;
        Ok(())
    }

    /// Draws the steps beside their curves: that of the newest, and every n-th before it if there is no room for all.
    fn labels(&self, root: &Area<'_>, chart: &Plot<'_, '_>, high: f64) -> Result<(), BoxError> {
        let every = (LABEL / (self.spacing() * HEIGHT)).ceil().max(1.0) as usize;
        // From the newest on, so that it gets a label.
        for (row, curve) in self.curves.iter().enumerate().rev().step_by(every) {
            let (x, y) = chart.backend_coord(&(high, self.base(row)));
            let lost = if curve.non_finite > 0 { " NaN" } else { "" };
            let text = format!("{}{lost}", curve.step);
            let tick = vec![(x, y), (x + 6, y)];
            root.draw(&PathElement::new(tick, RGBColor(90, 90, 90)))?;
            root.draw(&Text::new(text, (x + 10, y - 8), ("plot", 14)))?;
        }
        let place = ((SIZE.0 - LABELS) as i32 + 10, 26);
        root.draw(&Text::new("step", place, ("plot", 14)))?;
        Ok(())
    }

    /// Returns the height of a curve as a share of the plot. With more curves, each may hide more of the others.
    fn height(&self) -> f64 {
        self.spacing() * self.overlap()
    }

    fn overlap(&self) -> f64 {
        1.2 + self.curves.len() as f64 / 15.0
    }

    /// Returns the distance from one curve's base to the next, as a share of the plot.
    fn spacing(&self) -> f64 {
        0.98 / (self.overlap() + self.curves.len().saturating_sub(1) as f64)
    }

    /// Returns the base of a curve, as a share of the plot. The oldest is the highest.
    fn base(&self, row: usize) -> f64 {
        (self.curves.len() - 1 - row) as f64 * self.spacing()
    }

    /// Returns a colour from grey blue, for the oldest, to orange, for the newest.
    fn color(&self, row: usize) -> RGBColor {
        let share = row as f64 / self.curves.len().saturating_sub(1).max(1) as f64;
        let mix = |from: f64, to: f64| (from + (to - from) * share) as u8;
        RGBColor(mix(120.0, 255.0), mix(160.0, 127.0), mix(200.0, 14.0))
    }
}

/// Returns the outline of a curve, from its least value to its greatest, with a peak of 1. A spike if all values are
/// equal.
fn outline(curve: &Curve) -> Vec<(f64, f64)> {
    let (low, high) = curve.extent;
    let peak = curve.counts.iter().fold(1, |peak, count| peak.max(*count)) as f64;
    let width = (high - low) / curve.counts.len().max(1) as f64;
    let mut points = vec![(low, 0.0)];
    for (bin, count) in curve.counts.iter().enumerate() {
        let center = low + (bin as f64 + 0.5) * width;
        points.push((center, *count as f64 / peak));
    }
    points.push((high, 0.0));
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdh::stats::Histogram;

    /// Returns a curve of weights that spread, drift and grow a second hump, from values in closed form.
    fn curve(index: u64, of: u64) -> Curve {
        let share = index as f64 / of.max(2) as f64;
        let value = |place: u32| {
            let place = (f64::from(place) + 0.5) / 4000.0;
            let spread = 0.02 + 0.05 * share;
            let hump = if place > 0.7 { 0.12 * share } else { 0.0 };
            (spread * (place / (1.0 - place)).ln() * 0.5 + hump) as f32
        };
        let values: Vec<_> = (0..4000).map(value).collect();
        Curve::new(index * 250, index, Histogram::of(&values, 50))
    }

    fn chart(curves: u64) -> Chart {
        let title = "transformer.h.0.attn.c_q.weight".to_owned();
        Chart {
            title,
            curves: (0..curves).map(|index| curve(index, curves)).collect(),
        }
    }

    #[test]
    fn any_number_of_curves_is_drawn_even_without_a_width() {
        for curves in [0, 1, 3, 12, 40] {
            let png = chart(curves).draw().expect("a picture");
            assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
            if let Ok(dir) = std::env::var("BDH_PICTURES") {
                std::fs::write(format!("{dir}/ridge_{curves}.png"), png).expect("a folder");
            }
        }
        let alike = Curve::new(0, 0, Histogram::of(&[0.1; 9], 50));
        let lost = Curve::new(250, 1, Histogram::of(&[f32::NAN; 9], 50));
        assert!(
            Chart {
                curves: vec![alike, lost, curve(2, 3)],
                ..chart(0)
            }
            .draw()
            .is_ok()
        );
    }

    #[test]
    fn outline_passes_through_bin_centers_and_its_peak_is_1() {
        let curve = Curve::new(0, 0, Histogram::of(&[0.0, 1.0, 1.0, 4.0], 2));
        assert_eq!(
            outline(&curve),
            [(0.0, 0.0), (1.0, 1.0), (3.0, 1.0 / 3.0), (4.0, 0.0)]
        );
        let spike = outline(&Curve::new(0, 0, Histogram::of(&[2.0; 3], 2)));
        assert_eq!(spike, [(2.0, 0.0), (2.0, 0.0), (2.0, 1.0), (2.0, 0.0)]);
    }
}
