//! Results do not depend on the number of threads, bit for bit.

use bdh_ops::{
    AdamW, Mask, MuonStep, attention, gelu, layer_norm, linear, linear_attention, muon_step,
    relu_heads, rms_norm, sum_heads, tied_head, token_nll,
};
use burn::optim::Optimizer;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Numbers of threads from a laptop to a small server.
const THREADS: [usize; 4] = [1, 2, 3, 7];

/// Returns values that are neither regular nor random, different for each input.
fn wave<const D: usize>(shape: [usize; D], which: usize) -> Tensor<D> {
    let values = (0..shape.iter().product())
        .map(|k: usize| (0.7 * (k * k % 9973) as f32 + 1.3 * which as f32).sin());
    let data = TensorData::new(values.collect::<Vec<_>>(), shape);
    Tensor::from_data(data, &Device::flex().autodiff())
}

fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    let values: Vec<f32> = tensor.into_data().try_to_vec().expect("f32 on the CPU");
    values.into_iter().map(f32::to_bits).collect()
}

/// Panics unless `results` are the same for every number of threads.
fn same(results: impl Fn() -> Vec<Vec<u32>> + Sync) {
    let mut of_one = None;
    for threads in THREADS {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let found = pool.expect("threads").install(&results);
        assert!(found.iter().all(|values| !values.is_empty()));
        let expected = of_one.get_or_insert_with(|| found.clone());
        for (which, (found, expected)) in found.iter().zip(&*expected).enumerate() {
            assert!(
                found == expected,
                "result {which} is another one on {threads} threads"
            );
        }
    }
}

/// Returns the value of a function of leaves, and the gradient of each leaf.
fn with_gradients<const D: usize, const E: usize, const F: usize>(
    (a, b): (Tensor<D>, Tensor<E>),
    function: impl Fn(Tensor<D>, Tensor<E>) -> Tensor<F>,
) -> Vec<Vec<u32>> {
    let (a, b) = (a.require_grad(), b.require_grad());
    let out = function(a.clone(), b.clone());
    let gradients = (out.clone() * wave(out.dims(), 9)).sum().backward();
    let (of_a, of_b) = (a.grad(&gradients), b.grad(&gradients));
    vec![
        bits(out.inner()),
        bits(of_a.expect("a gradient")),
        bits(of_b.expect("a gradient")),
    ]
}

#[test]
fn matrix_products_do_not_depend_on_threads() {
    // Large enough for threads; more inner elements than a block of a product; a number of rows that threads do not
    // divide.
    for (rows, inputs, outputs) in [(1000, 96, 130), (301, 1500, 70), (64, 700, 901)] {
        let x = || wave([1, rows, inputs], 1);
        same(|| {
            with_gradients((x(), wave([inputs, outputs], 2)), |x, weight| {
                linear(x, weight, None)
            })
        });
        same(|| with_gradients((x(), wave([outputs, inputs], 2)), tied_head));
    }
    same(|| with_gradients((wave([4, 500, 90], 1), wave([4, 90, 120], 2)), relu_heads));
    same(|| with_gradients((wave([4, 500, 90], 1), wave([4, 90, 120], 2)), sum_heads));
}

#[test]
fn attention_does_not_depend_on_threads() {
    let mask = Mask::causal(300, &Device::flex());
    same(|| {
        let (queries, keys) = (wave([2, 300, 4, 32], 1), wave([2, 300, 2, 32], 2));
        with_gradients((queries, keys), |queries, keys| {
            attention(queries, keys.clone(), keys, &mask, 0.2)
        })
    });
    same(|| {
        with_gradients(
            (wave([4, 2, 300, 64], 1), wave([2, 300, 48], 2)),
            linear_attention,
        )
    });
}

#[test]
fn elementwise_passes_do_not_depend_on_threads() {
    let rows = || wave([900, 70], 1);
    same(|| {
        with_gradients((rows(), wave([70], 2)), |x, gain| {
            layer_norm(x, Some(gain), None, 1e-5)
        })
    });
    same(|| {
        with_gradients((rows(), wave([900, 70], 2)), |x, y| {
            gelu(x) + rms_norm(y, 1.0, 1e-6)
        })
    });
    same(|| {
        let targets = Tensor::<1, Int>::arange(0..900, &Device::flex().autodiff()) % 70;
        let targets = targets.reshape([1, 900]);
        with_gradients((wave([1, 900, 70], 1), wave([1], 2)), |logits, factor| {
            let nats = token_nll(logits, targets.clone());
            nats * factor.reshape([1, 1])
        })
    });
}

#[test]
fn optimizer_steps_do_not_depend_on_threads() {
    let matrix = |which| wave([300, 500], which).inner();
    same(|| {
        let (first, state) = AdamW::default().step(0.1, matrix(1), matrix(2), None);
        let (second, _) = AdamW::default().step(0.1, first, matrix(3), state);
        vec![bits(second)]
    });
    same(|| {
        let how = MuonStep {
            momentum: 0.9,
            beta2: 0.9,
            lr: 0.1,
            decay: 0.1,
        };
        let (weight, momentum, variance) = muon_step(matrix(1), matrix(2), matrix(3), None, how);
        vec![bits(weight), bits(momentum), bits(variance)]
    });
}
