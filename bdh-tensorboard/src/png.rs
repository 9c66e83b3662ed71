//! Header of a PNG.

/// Returns the width and height in pixels that the header states; `None` if `png` is not a PNG.
pub(crate) fn size(png: &[u8]) -> Option<(u32, u32)> {
    let chunk = png.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    if chunk.get(4..8)? != b"IHDR" {
        return None;
    }
    Some((side(chunk, 8)?, side(chunk, 12)?))
}

fn side(chunk: &[u8], offset: usize) -> Option<u32> {
    let bytes = chunk.get(offset..offset + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}
