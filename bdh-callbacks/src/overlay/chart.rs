//! Chart of distributions as lines over one axis, with a legend beside them.

use crate::plot::{self, Area, Plot, range, short};
use bdh::BoxError;
use bdh::stats::Histogram;
use plotters::chart::ChartBuilder;
use plotters::element::{PathElement, Text};
use plotters::prelude::LineSeries;
use plotters::style::{Color, HSLColor, RGBColor, ShapeStyle};

/// Width and height in pixels: 20 by 8 inches, as in the original request, at 80 dots per inch.
const SIZE: (u32, u32) = (1_600, 640);

/// Pixels from one line of the legend to the next, if all of them fit.
const LEGEND_LINE: u32 = 22;

/// Lines in a column of the legend.
const LEGEND_ROWS: usize = 44;

/// Average width of a letter of the legend, as a share of the font size.
const LETTER: f64 = 0.56;

/// Distributions in one chart.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x_label: String,
    /// Name and distribution of each line.
    pub(crate) lines: Vec<(String, Histogram)>,
}

/// Layout of the legend.
struct Legend {
    rows: usize,
    columns: usize,
    /// Font size in pixels.
    font: u32,
}

impl Legend {
    /// Returns the distance of two lines in pixels.
    fn line_height(&self) -> i32 {
        LEGEND_LINE.min((SIZE.1 - 60) / self.rows as u32) as i32
    }
}

impl Chart {
    /// Draws the chart as a PNG.
    pub(crate) fn draw(&self) -> Result<Vec<u8>, BoxError> {
        plot::png(SIZE, |root| {
            let (plot, legend) = root.split_horizontally(SIZE.0 - self.legend_width());
            self.plot(&plot)?;
            self.legend(&legend)
        })
    }

    fn plot(&self, area: &Area<'_>) -> Result<(), BoxError> {
        let mut curves = Vec::new();
        for (_, histogram) in &self.lines {
            curves.push(density(histogram));
        }
        let mut chart = self.axes(area, &curves)?;
        for (index, curve) in curves.into_iter().enumerate() {
            chart.draw_series(LineSeries::new(curve, self.style(index)))?;
        }
        Ok(())
    }

    /// Draws caption, axes and grid, large enough for all curves.
    fn axes<'a, 'b>(
        &self,
        area: &'a Area<'b>,
        curves: &[Vec<(f64, f64)>],
    ) -> Result<Plot<'a, 'b>, BoxError> {
        let (low, high) = range(curves.iter().flatten().map(|point| point.0));
        let top = top(curves);
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("plot", 24))
            .margin(12)
            .margin_right(24)
            .x_label_area_size(48)
            .y_label_area_size(78)
            .build_cartesian_2d(low..high, 0.0..top)?;
        let grid = RGBColor(0, 0, 0);
        chart
            .configure_mesh()
            .x_desc(&self.x_label)
            .y_desc("Density")
            .bold_line_style(grid.mix(0.15))
            .light_line_style(grid.mix(0.04))
            .label_style(("plot", 15))
            .axis_desc_style(("plot", 17))
            .x_label_formatter(&|value| short(*value, high - low))
            .y_label_formatter(&|value| short(*value, top))
            .draw()?;
        Ok(chart)
    }

    /// Draws the legend beside the plot, where it hides no line. More lines make it denser.
    fn legend(&self, area: &Area<'_>) -> Result<(), BoxError> {
        let legend = self.legend_shape();
        let font = ("plot", legend.font);
        let column = self.legend_width() as i32 / legend.columns as i32;
        for index in 0..self.named().len() {
            let x = (index / legend.rows) as i32 * column;
            let y = 50 + (index % legend.rows) as i32 * legend.line_height();
            self.legend_entry(area, index, (x, y), legend.font)?;
        }
        let unnamed = self.lines.len() - self.named().len();
        if unnamed > 0 {
            let text = format!("and {unnamed} more");
            area.draw(&Text::new(text, (30, SIZE.1 as i32 - 20), font))?;
        }
        Ok(())
    }

    /// Draws a stroke in the style of a line, and its label beside it.
    fn legend_entry(
        &self,
        area: &Area<'_>,
        index: usize,
        (x, y): (i32, i32),
        font: u32,
    ) -> Result<(), BoxError> {
        let (name, histogram) = &self.lines[index];
        let style = self.style(index).stroke_width(3);
        area.draw(&PathElement::new(vec![(x, y), (x + 24, y)], style))?;
        let place = (x + 30, y - font as i32 / 2);
        area.draw(&Text::new(label(name, histogram), place, ("plot", font)))?;
        Ok(())
    }

    fn legend_shape(&self) -> Legend {
        let lines = self.named().len().max(1);
        let (rows, font) = match lines {
            ..=26 => (lines, 15),
            27..=LEGEND_ROWS => (lines, 12),
            _ => (lines.div_ceil(2), 11),
        };
        Legend {
            rows,
            columns: lines.div_ceil(rows),
            font,
        }
    }

    /// Returns the lines that the legend has room for.
    fn named(&self) -> &[(String, Histogram)] {
        &self.lines[..self.lines.len().min(2 * LEGEND_ROWS)]
    }

    fn legend_width(&self) -> u32 {
        let Legend { columns, font, .. } = self.legend_shape();
        let mut longest = 0;
        for (name, histogram) in self.named() {
            longest = longest.max(label(name, histogram).chars().count());
        }
        let text = (longest * columns) as f64 * LETTER * f64::from(font);
        let width = text + 44.0 * columns as f64; // a stroke, and space around it
        (width as u32).min(SIZE.0 / 2)
    }

    /// Returns the style of a line: one of ten distinct colours, or beyond ten lines hues around the circle in three
    /// shades.
    fn style(&self, index: usize) -> ShapeStyle {
        let count = self.lines.len();
        if count <= TEN.len() {
            let (red, green, blue) = TEN[index];
            return RGBColor(red, green, blue).stroke_width(2);
        }
        let shade = [0.36, 0.52, 0.66][index % 3];
        HSLColor(index as f64 / count as f64, 0.75, shade).stroke_width(2)
    }
}

/// Default palette of Matplotlib.
const TEN: [(u8, u8, u8); 10] = [
    (31, 119, 180),
    (255, 127, 14),
    (44, 160, 44),
    (214, 39, 40),
    (148, 103, 189),
    (140, 86, 75),
    (227, 119, 194),
    (127, 127, 127),
    (188, 189, 34),
    (23, 190, 207),
];

/// Returns left edges and densities, count / (n · width), as `torch.histogram` with `density=True` does. Empty if all
/// values are equal, since they have no density.
fn density(histogram: &Histogram) -> Vec<(f64, f64)> {
    let total: u64 = histogram.counts.iter().sum();
    let mut points = Vec::new();
    for (edges, count) in histogram.edges.windows(2).zip(&histogram.counts) {
        let density = *count as f64 / (total as f64 * (edges[1] - edges[0]));
        if density.is_finite() {
            points.push((edges[0], density));
        }
    }
    points
}

/// Returns the upper end of the axis of densities.
fn top(curves: &[Vec<(f64, f64)>]) -> f64 {
    let peak = curves
        .iter()
        .flatten()
        .map(|point| point.1)
        .fold(0.0, f64::max);
    if peak > 0.0 { peak * 1.05 } else { 1.0 }
}

fn label(name: &str, histogram: &Histogram) -> String {
    if histogram.non_finite > 0 {
        return format!("{name} ({} not finite)", histogram.non_finite);
    }
    let (least, greatest) = (histogram.edges.first(), histogram.edges.last());
    if least == greatest {
        return format!("{name} (all {:.3e})", least.unwrap_or(&0.0));
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a bell curve around `center`.
    fn bell(center: f64, width: f64) -> Histogram {
        let edges: Vec<f64> = (0..=50)
            .map(|edge| center + width * (f64::from(edge) / 12.5 - 2.0))
            .collect();
        let count = |edge: &f64| (1e4 * (-2.0 * ((edge - center) / width).powi(2)).exp()) as u64;
        Histogram {
            counts: edges[..50].iter().map(count).collect(),
            edges,
            non_finite: 0,
        }
    }

    fn chart(lines: usize) -> Chart {
        let line = |index: usize| {
            let width = 0.02 + 0.002 * index as f64;
            let name = format!("transformer.h.{}.attn.c_{index}.weight", index % 12);
            (name, bell(0.004 * (index % 5) as f64, width))
        };
        Chart {
            title: "Weight Distribution (Step 100)".to_owned(),
            x_label: "Weight Value".to_owned(),
            lines: (0..lines).map(line).collect(),
        }
    }

    #[test]
    fn any_number_of_lines_is_drawn_except_those_without_a_density() {
        for lines in [0, 1, 2, 10, 40, 200] {
            let png = chart(lines).draw().expect("a picture");
            assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
            if let Ok(dir) = std::env::var("BDH_PICTURES") {
                std::fs::write(format!("{dir}/{lines}.png"), png).expect("a folder for pictures");
            }
        }
        let flat = Histogram::of(&[1.0, 1.0, f32::NAN], 50);
        assert_eq!(density(&flat), []);
        assert_eq!(label("w", &flat), "w (1 not finite)");
        let lines = vec![
            ("flat".to_owned(), flat),
            ("none".to_owned(), Histogram::of(&[], 50)),
        ];
        assert!(Chart { lines, ..chart(0) }.draw().is_ok());
    }

    #[test]
    fn densities_are_those_of_torch() {
        // torch.histogram(torch.tensor([0., 1., 1., 4.]), bins=2, density=True): [0.375, 0.125]
        let points = density(&Histogram::of(&[0.0, 1.0, 1.0, 4.0], 2));
        assert_eq!(points, [(0.0, 0.375), (2.0, 0.125)]);
    }
}
