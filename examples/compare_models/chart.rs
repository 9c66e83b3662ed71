//! Chart of validation losses as SVG, with one line for each model.

use crate::Trained;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// Space for the labels on the left and below.
const MARGIN: f64 = 50.0;
const COLOURS: [&str; 3] = ["#d62728", "#1f77b4", "#2ca02c"];

/// Draws losses over steps. The first loss, of the untrained model, is left out because it would flatten the rest.
pub(crate) fn draw(results: &[Trained]) -> String {
    let axes = Axes::of(results);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for fifth in 0..=5 {
        svg += &axes.tick(f64::from(fifth) / 5.0);
    }
    for (number, result) in results.iter().enumerate() {
        svg += &axes.curve(number, result);
    }
    svg + "<text x=\"16\" y=\"24\">validation loss, nats per byte, by step</text>\n</svg>\n"
}

/// Ranges of the chart: steps from 0, and whole numbers around the losses.
struct Axes {
    steps: f64,
    low: f64,
    high: f64,
}

impl Axes {
    fn of(results: &[Trained]) -> Self {
        let (mut steps, mut low, mut high) = (1, f64::INFINITY, f64::NEG_INFINITY);
        for result in results {
            for (step, loss) in result.losses.iter().skip(1) {
                steps = steps.max(*step);
                low = low.min(*loss);
                high = high.max(*loss);
            }
        }
        Self {
            steps: steps as f64,
            low: low.floor(),
            high: high.ceil(),
        }
    }

    fn x(&self, step: f64) -> f64 {
        MARGIN + step / self.steps * (WIDTH - 2.0 * MARGIN)
    }

    fn y(&self, loss: f64) -> f64 {
        HEIGHT - MARGIN - (loss - self.low) / (self.high - self.low) * (HEIGHT - 2.0 * MARGIN)
    }

    /// Draws a grid line with the labels of both axes at a share of their ranges.
    fn tick(&self, share: f64) -> String {
        let loss = self.low + share * (self.high - self.low);
        let step = share * self.steps;
        let (y, left, right) = (self.y(loss), self.x(0.0), self.x(self.steps));
        format!(
            "<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{loss:.1}</text>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{step:.0}</text>\n",
            left - 6.0,
            y + 4.0,
            self.x(step),
            self.y(self.low) + 18.0
        )
    }

    /// Draws the losses of a model, with its name.
    fn curve(&self, number: usize, result: &Trained) -> String {
        let mut points = Vec::new();
        for (step, loss) in result.losses.iter().skip(1) {
            points.push(format!("{:.1},{:.1}", self.x(*step as f64), self.y(*loss)));
        }
        let colour = COLOURS[number % COLOURS.len()];
        format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>\n",
            points.join(" "),
            self.x(self.steps) - 80.0,
            self.y(self.high) + 16.0 + 18.0 * number as f64,
            result.name
        )
    }
}
