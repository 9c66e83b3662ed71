//! Canvas, font, axis labels and files of pictures.

use bdh::BoxError;
use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::prelude::BitMapBackend;
use plotters::style::{FontStyle, WHITE, register_font};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::LazyLock;

/// Whether the font could be registered: a subset of DejaVu Sans, so that pictures have text on a machine without
/// fonts. See `FONT-LICENSE.txt`.
static HAS_FONT: LazyLock<bool> = LazyLock::new(|| {
    register_font(
        "plot",
        FontStyle::Normal,
        include_bytes!("plot/plot_sans.ttf"),
    )
    .is_ok()
});

pub(crate) type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Chart with its axes, to draw curves into.
pub(crate) type Plot<'a, 'b> =
    ChartContext<'a, BitMapBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws a PNG of `size` in pixels. The font is called `plot`.
pub(crate) fn png(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), BoxError>,
) -> Result<Vec<u8>, BoxError> {
    if !*HAS_FONT {
        return Err("the built-in font cannot be registered".into());
    }
    let mut pixels = vec![0; (size.0 * size.1 * 3) as usize];
    {
        let root = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        root.fill(&WHITE)?;
        draw(&root)?;
        root.present()?;
    }
    encode(size, &pixels)
}

fn encode(size: (u32, u32), pixels: &[u8]) -> Result<Vec<u8>, BoxError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.0, size.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(bytes)
}

/// Writes a file atomically: readers see all of it or none.
pub(crate) fn write(path: &Path, png: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("png.partial");
    bdh::files::ensure_dir(path.parent().unwrap_or(Path::new(".")))?;
    let _ = fs::remove_file(&partial); // it may be a link, and writing through a link changes another file
    File::create_new(&partial)?.write_all(png)?;
    fs::rename(partial, path)
}

/// Returns the least and the greatest value, or -1 and 1 if they are equal or missing.
pub(crate) fn range(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    if low < high { (low, high) } else { (-1.0, 1.0) }
}

/// Formats the label of a tick, with enough digits to distinguish it from its neighbours.
pub(crate) fn short(value: f64, range: f64) -> String {
    let digits = 1.0 - range.log10().floor();
    if value.abs() < range * 1e-9 {
        "0".to_owned()
    } else if (-3.0..6.0).contains(&digits) {
        format!("{value:.*}", digits.max(0.0) as usize)
    } else {
        format!("{value:.1e}")
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn picture_is_not_written_through_a_link() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let outside = dir.path().join("mine");
        fs::write(&outside, "mine").expect("a file");
        let picture = dir.path().join("a.png");
        std::os::unix::fs::symlink(&outside, dir.path().join("a.png.partial")).expect("a link");
        write(&picture, b"png").expect("a picture");
        assert_eq!(fs::read_to_string(&outside).expect("the file"), "mine");
        assert!(
            fs::symlink_metadata(&picture)
                .expect("the picture")
                .is_file()
        );
    }
}
