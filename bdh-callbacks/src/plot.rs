//! What pictures of distributions have in common: a canvas, a font, numbers on an axis, a file.

use bdh::BoxError;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::prelude::BitMapBackend;
use plotters::style::{FontStyle, WHITE, register_font};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::LazyLock;

/// A subset of DejaVu Sans, so that there is text on a machine without fonts. See `FONT-LICENSE.txt`.
static HAS_FONT: LazyLock<bool> = LazyLock::new(|| {
    register_font(
        "plot",
        FontStyle::Normal,
        include_bytes!("plot/plot_sans.ttf"),
    )
    .is_ok()
});

pub(crate) type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// A PNG of `size` in pixels. The font is called `plot`.
pub(crate) fn png(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), BoxError>,
) -> Result<Vec<u8>, BoxError> {
    if !*HAS_FONT {
        return Err("the font cannot be used".into());
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

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, png: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("png.partial");
    bdh::files::ensure_dir(path.parent().unwrap_or(Path::new(".")))?;
    let _ = fs::remove_file(&partial); // a link, maybe: writing through it would change a file elsewhere
    File::create_new(&partial)?.write_all(png)?;
    fs::rename(partial, path)
}

/// From the least to the greatest, and never nothing.
pub(crate) fn range(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    if low < high { (low, high) } else { (-1.0, 1.0) }
}

/// A tick's label, with the digits that tell it from its neighbours.
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
    fn a_picture_is_not_written_through_a_link() {
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
