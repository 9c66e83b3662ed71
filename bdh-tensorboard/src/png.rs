//! What a PNG says of itself.

/// Width and height in pixels, as the header says; `None` for what is no PNG.
pub(crate) fn size(png: &[u8]) -> Option<(u32, u32)> {
    let chunk = png.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    (chunk.get(4..8)? == b"IHDR").then_some(())?;
    let side = |at: usize| Some(u32::from_be_bytes(chunk.get(at..at + 4)?.try_into().ok()?));
    Some((side(8)?, side(12)?))
}
