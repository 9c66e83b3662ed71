//! Distributions as lines over one axis, with a legend beside them.

use crate::plot::{self, Area, range, short};
use bdh::{BoxError, Histogram};
use plotters::chart::ChartBuilder;
use plotters::element::{PathElement, Text};
use plotters::prelude::LineSeries;
use plotters::style::{Color, HSLColor, RGBColor, ShapeStyle};

/// Pixels. The request's figure is 20 by 8 inches.
const SIZE: (u32, u32) = (1_600, 640);

/// Pixels from one line of the legend to the next, as long as they fit.
const LEGEND_LINE: u32 = 22;

/// Lines of a column of the legend.
const LEGEND_ROWS: usize = 44;

/// About how wide a letter of the legend is, in shares of its size.
const LETTER: f64 = 0.56;

/// Distributions that are drawn together.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x_label: String,
    /// Each with its name.
    pub(crate) lines: Vec<(String, Histogram)>,
}

impl Chart {
    /// The picture as a PNG.
    pub(crate) fn draw(&self) -> Result<Vec<u8>, BoxError> {
        plot::png(SIZE, |root| {
            let (plot, legend) = root.split_horizontally(SIZE.0 - self.legend_width());
            self.plot(&plot)?;
            self.legend(&legend)
        })
    }

    fn plot(&self, area: &Area<'_>) -> Result<(), BoxError> {
        let curves: Vec<_> = self
            .lines
            .iter()
            .map(|(_, histogram)| density(histogram))
            .collect();
        let points = || curves.iter().flatten();
        let (low, high) = range(points().map(|point| point.0));
        let top = points().map(|point| point.1).fold(0.0, f64::max);
        let top = if top > 0.0 { top * 1.05 } else { 1.0 };
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
        for (index, curve) in curves.into_iter().enumerate() {
            chart.draw_series(LineSeries::new(curve, self.style(index)))?;
        }
        Ok(())
    }

    /// Beside the plot, where it hides no line: in one column or in two, and denser the more there is to tell.
    fn legend(&self, area: &Area<'_>) -> Result<(), BoxError> {
        let (rows, size) = self.legend_shape();
        let column = self.legend_width() / self.named().len().div_ceil(rows).max(1) as u32;
        let height = (SIZE.1 - 60) / rows.max(1) as u32;
        let height = height.min(LEGEND_LINE) as i32;
        for (index, (name, histogram)) in self.named().iter().enumerate() {
            let x = (index / rows) as i32 * column as i32;
            let y = 50 + (index % rows) as i32 * height;
            let style = self.style(index).stroke_width(3);
            area.draw(&PathElement::new(vec![(x, y), (x + 24, y)], style))?;
            let text = label(name, histogram);
            area.draw(&Text::new(
                text,
                (x + 30, y - size as i32 / 2),
                ("plot", size),
            ))?;
        }
        let unnamed = self.lines.len() - self.named().len();
        if unnamed > 0 {
            let text = format!("and {unnamed} more");
            area.draw(&Text::new(text, (30, SIZE.1 as i32 - 20), ("plot", size)))?;
        }
        Ok(())
    }

    /// Lines of a column, and the size of the letters.
    fn legend_shape(&self) -> (usize, u32) {
        match self.named().len() {
            lines @ 0..=26 => (lines.max(1), 15),
            lines @ 27..=LEGEND_ROWS => (lines, 12),
            lines => (lines.div_ceil(2), 11),
        }
    }

    /// The lines that the legend has room for.
    fn named(&self) -> &[(String, Histogram)] {
        &self.lines[..self.lines.len().min(2 * LEGEND_ROWS)]
    }

    fn legend_width(&self) -> u32 {
        let (rows, size) = self.legend_shape();
        let columns = self.named().len().div_ceil(rows).max(1);
        let longest = self
            .named()
            .iter()
            .map(|(name, of)| label(name, of).chars().count())
            .max();
        let letters = (longest.unwrap_or(0) * columns) as f64;
        let width = letters * LETTER * f64::from(size) + 44.0 * columns as f64;
        (width as u32).min(SIZE.0 / 2)
    }

    /// Ten colours that are told apart at a glance; of more lines, hues once round in three shades.
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

/// The palette that Matplotlib begins with.
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

/// Left edges and densities, count / (n · width), as `torch.histogram` with `density=True` has them. Nothing where
/// all values are alike, which has no density.
fn density(histogram: &Histogram) -> Vec<(f64, f64)> {
    let total: u64 = histogram.counts.iter().sum();
    let bins = histogram.edges.windows(2).zip(&histogram.counts);
    let point = |(edges, count): (&[f64], &u64)| {
        (
            edges[0],
            *count as f64 / (total as f64 * (edges[1] - edges[0])),
        )
    };
    bins.map(point)
        .filter(|(_, density)| density.is_finite())
        .collect()
}

fn label(name: &str, histogram: &Histogram) -> String {
    let is_flat = histogram.edges.first() == histogram.edges.last();
    let what = match (is_flat, histogram.non_finite) {
        (true, 0) => format!(" (all {:.3e})", histogram.edges.first().unwrap_or(&0.0)),
        (_, 0) => String::new(),
        (_, lost) => format!(" ({lost} not finite)"),
    };
    format!("{name}{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bell of a width, with the spread of its maximum around `center`.
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
    fn any_number_of_lines_is_drawn_and_values_without_a_density_are_not() {
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
