//! Kernel of rotary positions.

use super::array::Array;
use super::tape::{Kernel, plain, run};
use super::threads::on_rows;
use burn::tensor::Tensor;

pub(crate) fn rotary(x: Tensor<4>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<4> {
    let [_, seq_len, _, head_size] = x.dims();
    assert_eq!(
        cos.dims(),
        [seq_len, head_size / 2],
        "there must be one cosine for each position and pair"
    );
    assert_eq!(
        cos.dims(),
        sin.dims(),
        "sines must have the shape of cosines"
    );
    let [cos, sin] = [cos, sin].map(|table| Array::new(plain(table.into_dispatch())));
    Tensor::from_dispatch(run(Rotary { cos, sin }, [x.into_dispatch()]))
}

/// Rotation by tables of `[positions, pairs]`.
#[derive(Debug)]
struct Rotary {
    cos: Array,
    sin: Array,
}

impl Kernel<1> for Rotary {
    type Saved = ();

    fn forward(&self, [x]: [Array; 1]) -> (Array, ()) {
        (self.rotate(&x, 1.0), ())
    }

    /// Rotates the gradient in the opposite direction.
    fn backward(&self, (): (), gradient: Array, _: [bool; 1]) -> [Option<Array>; 1] {
        [Some(self.rotate(&gradient, -1.0))]
    }
}

impl Rotary {
    /// Rotates by minus the angles for a `direction` of 1, and by the angles for -1.
    fn rotate(&self, x: &Array, direction: f32) -> Array {
        let [_, positions, heads, size] = *x.shape() else {
            unreachable!("`rotary` takes a tensor of rank 4")
        };
        let (half, row) = (size / 2, heads * size);
        let (cos, sin, values) = (self.cos.values(), self.sin.values(), x.values());
        let mut out = vec![0.0; values.len()];
        on_rows(
            &mut out,
            row,
            #[inline(always)]
            |first, rows| {
                let values = &values[first * row..][..rows.len()];
                let rows = rows.chunks_exact_mut(row).zip(values.chunks_exact(row));
                for (place, (out, row)) in rows.enumerate() {
                    let position = (first + place) % positions;
                    let angles = position * half..(position + 1) * half;
                    for (out, head) in out.chunks_exact_mut(size).zip(row.chunks_exact(size)) {
                        rotate_head(
                            out,
                            head,
                            &cos[angles.clone()],
                            &sin[angles.clone()],
                            direction,
                        );
                    }
                }
            },
        );
        Array::of(out, x.shape())
    }
}

#[inline(always)]
fn rotate_head(out: &mut [f32], head: &[f32], cos: &[f32], sin: &[f32], direction: f32) {
    let ((first, second), (x, y)) = (out.split_at_mut(cos.len()), head.split_at(cos.len()));
    let angles = cos.iter().zip(sin);
    let places = first
        .iter_mut()
        .zip(second)
        .zip(x.iter().zip(y))
        .zip(angles);
    for (((first, second), (x, y)), (cos, sin)) in places {
        let sin = direction * sin;
        *first = x * cos + y * sin;
        *second = y * cos - x * sin;
    }
}
