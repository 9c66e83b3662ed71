//! The picture: a line of validation losses for each model, as SVG.

use crate::Trained;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// Room for the figures on the left and below.
const MARGIN: f64 = 50.0;
const COLOURS: [&str; 3] = ["#d62728", "#1f77b4", "#2ca02c"];

/// Draws losses over steps; the first loss, of the untrained model, is left out, as it would flatten the rest.
pub(crate) fn draw(results: &[Trained]) -> String {
    let points = || {
        results
            .iter()
            .flat_map(|result| result.losses.iter().skip(1))
    };
    let steps = points().map(|(step, _)| *step).max().unwrap_or(1) as f64;
    let low = points()
        .map(|(_, loss)| *loss)
        .fold(f64::INFINITY, f64::min)
        .floor();
    let high = points()
        .map(|(_, loss)| *loss)
        .fold(f64::NEG_INFINITY, f64::max)
        .ceil();
    let x = |step: f64| MARGIN + step / steps * (WIDTH - 2.0 * MARGIN);
    let y = |loss: f64| HEIGHT - MARGIN - (loss - low) / (high - low) * (HEIGHT - 2.0 * MARGIN);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for fifth in 0..=5 {
        let (loss, step) = (
            low + f64::from(fifth) / 5.0 * (high - low),
            f64::from(fifth) / 5.0 * steps,
        );
        let (at, left, right) = (y(loss), x(0.0), x(steps));
        svg += &format!(
            "<path d=\"M{left:.1} {at:.1}H{right:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{loss:.1}</text>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{step:.0}</text>\n",
            left - 6.0,
            at + 4.0,
            x(step),
            y(low) + 18.0
        );
    }
    for (number, (result, colour)) in results.iter().zip(COLOURS).enumerate() {
        let points = result.losses.iter().skip(1);
        let points: Vec<_> = points
            .map(|(step, loss)| format!("{:.1},{:.1}", x(*step as f64), y(*loss)))
            .collect();
        svg += &format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>\n",
            points.join(" "),
            x(steps) - 80.0,
            y(high) + 16.0 + 18.0 * number as f64,
            result.name
        );
    }
    svg + "<text x=\"16\" y=\"24\">validation loss, nats per byte, by step</text>\n</svg>\n"
}
