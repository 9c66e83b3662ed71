//! Heat map of a confusion matrix.

use crate::plot::{self, Area};
use bdh::BoxError;
use plotters::element::{Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    BLACK, Color, FontTransform, IntoFont, IntoTextStyle, RGBColor, TextStyle, WHITE,
};

/// Pixels of the square of cells, about.
const SQUARE: u32 = 640;

/// Pixels around the picture, and from a label to its cells.
const MARGIN: i32 = 12;

/// Pixels above the cells, for the title and the axis of predictions.
const TITLE: i32 = 64;

/// Least number of pixels from one label to the next.
const LABEL: u32 = 14;

/// Greatest number of classes whose counts are in the cells.
const WITH_COUNTS: usize = 20;

/// Longest name that is not cut.
const NAME: usize = 24;

/// Counts of a confusion matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cells {
    names: Vec<String>,
    /// Rows of targets, with a count for each predicted class.
    counts: Vec<Vec<f64>>,
}

impl Cells {
    /// Reads a table whose rows begin with a class. `None` if it is not square, is empty, or has a cell that is no
    /// number.
    pub(super) fn of(columns: &[String], rows: &[Vec<String>]) -> Option<Self> {
        let names = columns.get(1..)?.to_vec();
        let mut counts = Vec::with_capacity(rows.len());
        for row in rows {
            let cells = row.get(1..)?.iter().map(|cell| cell.parse().ok());
            let cells: Vec<f64> = cells.collect::<Option<_>>()?;
            if cells.len() != names.len() {
                return None;
            }
            counts.push(cells);
        }
        let is_square = counts.len() == names.len() && !names.is_empty();
        is_square.then_some(Self { names, counts })
    }

    /// Returns the shares that the colours show, from 0 to 1: of the row, or of the largest count.
    fn shares(&self, of_row: bool) -> Vec<Vec<f64>> {
        let largest = self.counts.iter().flatten().copied().fold(0.0, f64::max);
        let mut shares = Vec::with_capacity(self.counts.len());
        for row in &self.counts {
            let whole = if of_row { row.iter().sum() } else { largest };
            let share = |count: &f64| if whole > 0.0 { count / whole } else { 0.0 };
            shares.push(row.iter().map(share).collect());
        }
        shares
    }
}

/// Confusion matrix with a title.
pub(super) struct Chart {
    pub(super) title: String,
    /// Whether colours show shares of a row.
    pub(super) normalize: bool,
    pub(super) cells: Cells,
}

impl Chart {
    /// Draws the chart as a PNG.
    pub(super) fn draw(&self) -> Result<Vec<u8>, BoxError> {
        let layout = Layout::of(&self.cells.names);
        plot::png(layout.size(), |root| {
            root.draw(&Text::new(self.title.as_str(), (MARGIN, 10), ("plot", 20)))?;
            self.draw_cells(root, &layout)?;
            self.draw_labels(root, &layout)
        })
    }

    fn draw_cells(&self, root: &Area<'_>, layout: &Layout) -> Result<(), BoxError> {
        let has_counts = self.cells.names.len() <= WITH_COUNTS;
        for (row, shares) in self.cells.shares(self.normalize).iter().enumerate() {
            for (column, share) in shares.iter().enumerate() {
                let corners = layout.cell(row, column);
                root.draw(&Rectangle::new(corners, blue(*share).filled()))?;
                if has_counts {
                    let text = self.cells.counts[row][column].to_string();
                    let ink = if *share > 0.5 { WHITE } else { BLACK };
                    let style = text_style(layout.count_font(&text), HPos::Center).color(&ink);
                    root.draw(&Text::new(text, middle(corners), style))?;
                }
            }
        }
        let frame = [layout.origin, layout.end()];
        root.draw(&Rectangle::new(frame, BLACK.mix(0.4)))?;
        Ok(())
    }

    /// Draws the names of classes beside rows and columns, every n-th if there is no room for all.
    fn draw_labels(&self, root: &Area<'_>, layout: &Layout) -> Result<(), BoxError> {
        let every = LABEL.div_ceil(layout.cell) as usize;
        let (left, top) = (layout.origin.0 - MARGIN / 2, layout.end().1 + MARGIN / 2);
        for (class, name) in self.cells.names.iter().enumerate().step_by(every) {
            let (x, y) = middle(layout.cell(class, class));
            root.draw(&Text::new(
                cut(name),
                (left, y),
                text_style(13, HPos::Right),
            ))?;
            // Read from top to bottom, so that names of any length fit below their columns.
            let down = text_style(13, HPos::Left).transform(FontTransform::Rotate90);
            root.draw(&Text::new(cut(name), (x, top), down))?;
        }
        let axes = "rows: targets, columns: predictions";
        root.draw(&Text::new(axes, (MARGIN, 38), ("plot", 14)))?;
        Ok(())
    }
}

/// Places of the cells, in pixels.
struct Layout {
    /// Number of classes.
    classes: u32,
    /// Width and height of a cell.
    cell: u32,
    /// Upper left corner of the cells.
    origin: (i32, i32),
}

impl Layout {
    fn of(names: &[String]) -> Self {
        let longest = names.iter().map(|name| cut(name).chars().count()).max();
        let names_width = longest.unwrap_or(0) as i32 * 9; // a wide letter of the labels
        let classes = names.len() as u32;
        Self {
            classes,
            cell: (SQUARE / classes).clamp(1, 96),
            origin: (MARGIN * 2 + names_width, TITLE),
        }
    }

    /// Returns width and height of the picture: the names are as long below the cells as beside them.
    fn size(&self) -> (u32, u32) {
        let (right, bottom) = self.end();
        let width = (right + MARGIN).max(480); // of the title
        (width as u32, (bottom + self.origin.0) as u32)
    }

    /// Returns the lower right corner of the cells.
    fn end(&self) -> (i32, i32) {
        let side = (self.classes * self.cell) as i32;
        (self.origin.0 + side, self.origin.1 + side)
    }

    /// Returns the corners of a cell.
    fn cell(&self, row: usize, column: usize) -> [(i32, i32); 2] {
        let side = self.cell as i32;
        let x = self.origin.0 + column as i32 * side;
        let y = self.origin.1 + row as i32 * side;
        [(x, y), (x + side - 1, y + side - 1)]
    }

    /// Returns a font size in which a count fits into its cell.
    fn count_font(&self, text: &str) -> u32 {
        let width = f64::from(self.cell) * 0.9 / (0.64 * text.len().max(1) as f64);
        (width as u32).clamp(5, 15)
    }
}

fn middle([(left, top), (right, bottom)]: [(i32, i32); 2]) -> (i32, i32) {
    (i32::midpoint(left, right), i32::midpoint(top, bottom))
}

fn text_style(size: u32, anchor: HPos) -> TextStyle<'static> {
    let font = ("plot", size).into_font();
    font.into_text_style(&(0, 0))
        .pos(Pos::new(anchor, VPos::Center))
}

/// Cuts a long name, which ends with an ellipsis then.
fn cut(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    let mut short: String = name.chars().take(NAME - 1).collect();
    short.push('…');
    short
}

/// Returns a colour from white, for 0, to dark blue, for 1.
fn blue(share: f64) -> RGBColor {
    let mix = |from: f64, to: f64| (from + (to - from) * share.clamp(0.0, 1.0)) as u8;
    RGBColor(mix(255.0, 8.0), mix(255.0, 48.0), mix(255.0, 107.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a table of classes that are confused with their neighbours.
    fn cells(classes: usize) -> Cells {
        let mut columns = vec!["target".to_owned()];
        let mut rows = Vec::new();
        for class in 0..classes {
            columns.push(format!("class {class}"));
            let mut row = vec![format!("class {class}")];
            for predicted in 0..classes {
                let count = 900 / (1 + 9 * class.abs_diff(predicted).pow(2));
                row.push((count * usize::from(class != 1)).to_string());
            }
            rows.push(row);
        }
        Cells::of(&columns, &rows).expect("a confusion matrix")
    }

    #[test]
    fn any_number_of_classes_is_drawn() {
        for classes in [1, 2, 10, 20, 50, 1_000] {
            let chart = Chart {
                title: "val/confusion (Step 100)".to_owned(),
                normalize: true,
                cells: cells(classes),
            };
            let png = chart.draw().expect("a picture");
            assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
            if let Ok(dir) = std::env::var("BDH_PICTURES") {
                let path = format!("{dir}/confusion_{classes}.png");
                std::fs::write(path, png).expect("a folder for pictures");
            }
        }
    }

    #[test]
    fn shares_are_of_the_row_or_of_the_largest_count() {
        let cells = Cells {
            names: vec!["a".to_owned(), "b".to_owned()],
            counts: vec![vec![30.0, 10.0], vec![0.0, 0.0]],
        };
        assert_eq!(cells.shares(true), [[0.75, 0.25], [0.0, 0.0]]);
        assert_eq!(cells.shares(false), [[1.0, 10.0 / 30.0], [0.0, 0.0]]);
    }

    #[test]
    fn tables_of_another_shape_are_no_confusion_matrix() {
        let text = |cells: &[&str]| cells.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (columns, row) = (text(&["target", "a"]), text(&["a", "3"]));
        assert!(Cells::of(&columns, std::slice::from_ref(&row)).is_some());
        assert_eq!(Cells::of(&columns, &[]), None);
        assert_eq!(Cells::of(&columns, &[row.clone(), row.clone()]), None);
        assert_eq!(Cells::of(&columns, &[text(&["a", "many"])]), None);
        assert_eq!(Cells::of(&columns, &[text(&["a", "3", "4"])]), None);
        assert_eq!(Cells::of(&[], &[]), None);
        assert_eq!(Cells::of(&columns[..1], &[]), None);
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(cut("Åland"), "Åland");
        assert_eq!(cut(&"é".repeat(30)), "é".repeat(23) + "…");
    }
}
