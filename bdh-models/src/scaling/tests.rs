//! The laws, compared with nanochat's own numbers.

#![expect(
    clippy::float_cmp,
    reason = "values that are passed through, and powers of two, are exact"
)]

use super::*;
use std::collections::BTreeMap;

fn derive(request: &Request) -> Recipe {
    Recipe::derive(request).expect("the request is valid")
}

fn error(request: &Request) -> String {
    Recipe::derive(request)
        .expect_err("the request is invalid")
        .to_string()
}

/// Returns whether the relative difference is at most 1e-12.
fn same(left: f64, right: f64) -> bool {
    (left - right).abs() <= 1e-12 * right.abs()
}

/// Numbers of nanochat at vocabulary 32768, context 2048, windows SSSL, ratio 12.
///
/// Depth, width, all parameters, P, D, log2 B, learning rate multiplier, weight decay, N, FLOPs per token, FLOPs.
const MEASURED: &str = "\
4 256 36700242 11534384 1.38e8 18 0.7071 1.8899 528 8.02e7 1.11e16
6 384 73531538 23199852 2.78e8 18 0.7071 0.9396 1062 1.68e8 4.66e16
8 512 125829354 41943232 5.03e8 18 0.7071 0.5197 1920 2.96e8 1.49e17
10 640 195952986 70123820 8.41e8 19 1.0000 0.4396 1605 4.95e8 4.17e17
12 768 286261730 110100912 1.32e9 19 1.0000 0.2800 2520 7.60e8 1.00e18
16 1024 536871738 234881792 2.82e9 19 1.0000 0.1313 5376 1.59e9 4.47e18
20 1280 896533746 435160240 5.22e9 20 1.4142 0.1002 4980 2.89e9 1.51e19
24 1536 1384122122 729810624 8.76e9 20 1.4142 0.0597 8352 4.78e9 4.18e19";

#[test]
fn every_depth_of_the_measured_table() {
    for row in MEASURED.lines() {
        let depth = row
            .split(' ')
            .next()
            .and_then(|depth| depth.parse().ok())
            .expect("a row has a depth");
        let recipe = derive(&Request {
            depth,
            ..Request::default()
        });
        let (config, params) = (&recipe.config, recipe.config.num_params());
        let computed = format!(
            "{} {} {} {} {:.2e} {} {:.4} {:.4} {} {:.2e} {:.2e}",
            config.n_layer,
            config.n_embd,
            params.total(),
            params.scaling(),
            recipe.target_tokens as f64,
            recipe.total_batch_size.ilog2(),
            recipe.lr_multiplier,
            recipe.weight_decay,
            recipe.num_iterations,
            recipe.flops_per_token(),
            recipe.total_flops(),
        );
        assert_eq!(computed, row);
        assert!(recipe.total_batch_size.is_power_of_two());
        assert_eq!(
            (config.n_head, config.head_size()),
            (config.n_embd / 128, 128)
        );
        assert_eq!(
            recipe.warnings(),
            [],
            "nanochat's own depths need no warning"
        );
    }
}

#[test]
fn every_cell_of_the_sweep_grid() {
    let widths = [256, 384, 512, 768];
    let grid = [
        (8, [(672, 18), (1224, 18), (1920, 18), (1872, 19)]),
        (12, [(816, 18), (1548, 18), (1248, 19), (2520, 19)]),
        (16, [(960, 18), (1872, 18), (1536, 19), (3168, 19)]),
    ];
    for (depth, cells) in grid {
        for (width, (steps, log_batch)) in widths.into_iter().zip(cells) {
            let recipe = derive(&Request {
                depth,
                n_embd: Some(width),
                ..Request::default()
            });
            assert_eq!(recipe.config.n_head, width / 64, "the request's own rule");
            assert_eq!(recipe.num_iterations, steps, "depth {depth}, width {width}");
            assert_eq!(
                recipe.total_batch_size,
                1 << log_batch,
                "depth {depth}, width {width}"
            );
        }
    }
}

/// Returns the peak learning rate of each group.
fn lrs(recipe: &Recipe) -> BTreeMap<&'static str, f64> {
    let groups = recipe.groups(MuonSchedule::new(recipe.num_iterations));
    groups
        .into_iter()
        .map(|group| (group.name, group.peak_lr))
        .collect()
}

#[test]
fn twelve_layers_use_the_unscaled_base_rates() {
    let recipe = derive(&Request::default());
    let expected = [
        ("lm_head", 0.008),
        ("wte", 0.3),
        ("value_embeds", 0.15),
        ("resid_lambdas", 0.005),
        ("x0_lambdas", 0.5),
        ("smear", 0.2),
        ("matrix", 0.02),
    ];
    assert_eq!(lrs(&recipe), BTreeMap::from(expected));
    assert_eq!(recipe.weight_decay, 0.28);
}

#[test]
fn width_and_batch_scale_all_rates_except_the_smear() {
    // Width 64: (64 / 768)^-0.5 = sqrt(12); a batch of 2^15 tokens: sqrt(1 / 16).
    let recipe = derive(&Request {
        depth: 2,
        n_embd: Some(64),
        total_batch_size: Some(1 << 15),
        micro_batch: MicroBatch::Exactly(16),
        ..Request::default()
    });
    let by_width = 12f64.sqrt() / 4.0;
    assert_eq!(recipe.lr_multiplier, 0.25);
    let expected = [
        ("lm_head", 0.008 * by_width),
        ("wte", 0.3 * by_width),
        ("value_embeds", 0.15 * by_width),
        ("resid_lambdas", 0.005 / 4.0),
        ("x0_lambdas", 0.5 / 4.0),
        ("smear", 0.2),
        ("matrix", 0.02 / 4.0),
    ];
    let lrs = lrs(&recipe);
    for (name, lr) in expected {
        assert!(same(lrs[name], lr), "{name}: {} instead of {lr}", lrs[name]);
    }
}

#[test]
fn lr_override_replaces_batch_scaling_in_all_groups() {
    let lr = 0.000_123;
    let plain = derive(&Request {
        depth: 8,
        ..Request::default()
    });
    let moved = derive(&Request {
        depth: 8,
        lr_override: Some(lr),
        ..Request::default()
    });
    assert_eq!(moved.rates.matrix, lr, "to the last bit");
    let (before, after) = (lrs(&plain), lrs(&moved));
    assert!(same(after["smear"], 0.2 * lr / 0.02));
    assert!(same(after["x0_lambdas"], 0.5 * lr / 0.02));
    // The other groups keep their distance from Muon.
    let factor = lr / 0.02 / plain.lr_multiplier;
    for (name, lr) in after.iter().filter(|(name, _)| **name != "smear") {
        assert!(same(*lr, before[name] * factor), "{name}");
    }
    assert_eq!(moved.weight_decay, plain.weight_decay);
    assert_eq!(moved.num_iterations, plain.num_iterations);
    assert_eq!(moved.total_batch_size, plain.total_batch_size);
}

#[test]
fn base_rates_are_scaled_like_the_defaults() {
    let rates = LearningRates {
        embedding: 0.1,
        unembedding: 0.004,
        matrix: 0.01,
        scalar: 0.2,
        ..LearningRates::default()
    };
    let recipe = derive(&Request {
        rates,
        total_batch_size: Some(1 << 17),
        ..Request::default()
    });
    let lrs = lrs(&recipe);
    assert_eq!((lrs["wte"], lrs["lm_head"]), (0.05, 0.002));
    assert_eq!((lrs["matrix"], lrs["x0_lambdas"]), (0.005, 0.1));
}

#[test]
fn steps_win_over_flops_and_flops_over_data() {
    let flops = Some(1e18);
    let by_steps = derive(&Request {
        num_iterations: Some(100),
        target_flops: flops,
        ..Request::default()
    });
    assert_eq!(by_steps.num_iterations, 100);
    assert_eq!(
        by_steps.rates,
        derive(&Request::default()).rates,
        "the laws still use D"
    );

    let by_flops = derive(&Request {
        target_flops: flops,
        ..Request::default()
    });
    let step = by_flops.flops_per_token() * by_flops.total_batch_size as f64;
    assert!((by_flops.total_flops() - 1e18).abs() <= step / 2.0);
}

#[test]
fn explicit_weight_decay_is_not_scaled() {
    let recipe = derive(&Request {
        depth: 4,
        weight_decay_override: Some(0.1),
        ..Request::default()
    });
    assert_eq!(recipe.weight_decay, 0.1);
}

/// Returns the recipe of a toy model: bytes, two layers of width 64.
fn toy(total_batch_size: usize, weight_decay: Option<f64>) -> Recipe {
    derive(&Request {
        depth: 2,
        n_embd: Some(64),
        vocab_size: 257,
        sequence_len: 256,
        total_batch_size: Some(total_batch_size),
        weight_decay_override: weight_decay,
        ..Request::default()
    })
}

#[test]
fn excessive_weight_decay_of_a_toy_is_a_warning() {
    let recipe = toy(32_768, None);
    // 0.28 / 4 * 85,181,280 / 118,796: the reference model has the same vocabulary, as in nanochat.
    assert!((recipe.weight_decay - 50.193).abs() < 1e-3);
    let [warning] = recipe.warnings()[..] else {
        panic!("one warning")
    };
    insist(
        &warning.to_string(),
        &[
            "50.193",
            "5.000e-3",
            "25.1 %",
            "within 4 steps",
            "`--weight-decay-override 0.1`",
            "0.05 %",
        ],
    );
    assert_eq!(toy(32_768, Some(0.1)).warnings(), []);
}

fn insist(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}

#[test]
fn default_micro_batch_shrinks_to_fit_and_a_given_one_does_not() {
    let fit = |micro: MicroBatch, total| micro.fit(total, 256, 1);
    assert_eq!(fit(MicroBatch::AtMost(32), 2048), Ok(8));
    assert_eq!(fit(MicroBatch::AtMost(32), 256 * 96), Ok(32));
    assert_eq!(fit(MicroBatch::AtMost(32), 256 * 7), Ok(7));
    assert_eq!(fit(MicroBatch::Exactly(4), 2048), Ok(4));
    let message = fit(MicroBatch::Exactly(3), 2048)
        .expect_err("3 does not divide 8")
        .to_string();
    insist(
        &message,
        &[
            "total batch size 2048",
            "3 x 256 = 768",
            "--total-batch-size 1536 or 2304",
        ],
    );

    assert_eq!(MicroBatch::AtMost(32).fit(2048, 256, 4), Ok(2));
    let message = MicroBatch::Exactly(4)
        .fit(2048, 256, 4)
        .expect_err("2 for 4 devices")
        .to_string();
    insist(
        &message,
        &[
            "4 x 256 = 1024 tokens on each of 4 devices",
            "--total-batch-size 4096",
        ],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one case after another")]
fn errors_name_the_value_and_suggest_another() {
    let d = Request::default;
    let width = |n_embd| {
        error(&Request {
            n_embd: Some(n_embd),
            ..d()
        })
    };
    insist(&width(100), &["width 100", "head size 64", "use 64 or 128"]);
    insist(&width(32), &["width 32", "use 64,"]);
    insist(&width(0), &["width is 0"]);
    insist(&width(usize::MAX), &["width is", "at most 1048576"]);

    let narrow = error(&Request {
        n_embd: Some(16),
        head_dim: Some(16),
        ..d()
    });
    insist(&narrow, &["width 16", "below 24", "use 32"]);
    insist(
        &error(&Request {
            head_dim: Some(0),
            ..d()
        }),
        &["head size is 0"],
    );
    insist(
        &error(&Request {
            head_dim: Some(7),
            ..d()
        }),
        &["head size 7 is odd", "use 8"],
    );

    insist(
        &error(&Request { depth: 0, ..d() }),
        &["depth is 0", "at least 1"],
    );
    insist(
        &error(&Request {
            depth: usize::MAX,
            ..d()
        }),
        &["depth is", "at most 10000"],
    );
    insist(
        &error(&Request {
            sequence_len: 0,
            ..d()
        }),
        &["context length is 0"],
    );
    insist(
        &error(&Request {
            vocab_size: 0,
            ..d()
        }),
        &["vocabulary size is 0"],
    );
    insist(
        &error(&Request {
            micro_batch: MicroBatch::Exactly(0),
            ..d()
        }),
        &["micro-batch is 0"],
    );
    insist(
        &error(&Request {
            total_batch_size: Some(0),
            ..d()
        }),
        &["total batch size is 0"],
    );
    insist(
        &error(&Request {
            num_iterations: Some(0),
            ..d()
        }),
        &["number of steps is 0"],
    );
    insist(
        &error(&Request {
            window_pattern: "SXL".into(),
            ..d()
        }),
        &["`SXL`", "SSSL"],
    );
    insist(
        &error(&Request {
            window_pattern: String::new(),
            ..d()
        }),
        &["window pattern"],
    );
    insist(
        &error(&Request {
            total_batch_size: Some(1000),
            ..d()
        }),
        &["total batch size 1000", "--total-batch-size 2048"],
    );
    insist(
        &error(&Request {
            target_flops: Some(1.0),
            ..d()
        }),
        &["524288 tokens", "--num-iterations"],
    );
    for lr in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        insist(
            &error(&Request {
                lr_override: Some(lr),
                ..d()
            }),
            &["learning rate is", "finite number above 0"],
        );
    }
    for decay in [-0.1, f64::NAN] {
        insist(
            &error(&Request {
                weight_decay_override: Some(decay),
                ..d()
            }),
            &["weight decay is", "0 turns it off"],
        );
    }
}

#[test]
fn the_largest_sizes_do_not_overflow() {
    let recipe = Recipe::derive(&Request {
        depth: 10_000,
        n_embd: Some(1 << 20),
        vocab_size: 1 << 26,
        sequence_len: 1 << 20,
        ..Request::default()
    });
    assert!(
        recipe.is_ok() || matches!(recipe, Err(RecipeError::NoSteps { .. })),
        "{recipe:?}"
    );
}

#[test]
fn printed_page_contains_every_resolved_value() {
    let page = toy(2048, None).to_string();
    insist(
        &page,
        &[
            "depth 2, width 64 = heads 1 x 64, vocabulary 257 (padded to 320)",
            "159,786 in total, 118,796 count for scaling",
            "2,048 tokens = micro-batch 8 x context 256 x accumulation 1",
            "duration 696 steps, 1,425,408 tokens, 12.00 per scaling parameter",
            "lm_head       lr 0.001732   AdamW betas 0.8 0.96 weight decay 0.01",
            "matrix        lr 0.001250   Muon weight decay 12.5482",
        ],
    );
}

/// Depth, parameters, scaling parameters, FLOPs per token, batch, steps and weight decay of nanochat's next version.
///
/// Evaluated in Python from the formulas of its `scripts/base_train.py`, with a vocabulary of 32768.
const NEXT: [(usize, usize, usize, f64, usize, u64, f64); 9] = [
    (
        12,
        286_261_705,
        110_100_912,
        759_695_904.0,
        1 << 19,
        2520,
        0.28,
    ),
    (
        14,
        399_114_857,
        164_233_804,
        1_128_533_448.0,
        1 << 19,
        3759,
        0.187_709_561_668,
    ),
    (
        16,
        536_871_713,
        234_881_792,
        1_585_451_520.0,
        1 << 19,
        5376,
        0.131_250_085_830,
    ),
    (
        18,
        701_891_569,
        324_404_172,
        2_179_995_336.0,
        1 << 20,
        3712,
        0.134_393_268_020,
    ),
    (
        20,
        896_533_721,
        435_160_240,
        2_886_212_640.0,
        1 << 20,
        4980,
        0.100_187_776_426,
    ),
    (
        22,
        1_123_157_465,
        569_509_292,
        3_763_085_832.0,
        1 << 20,
        6517,
        0.076_553_161_549,
    ),
    (
        24,
        1_384_122_097,
        729_810_624,
        4_775_225_472.0,
        1 << 20,
        8352,
        0.059_738_424_463,
    ),
    (
        26,
        1_681_786_913,
        918_423_532,
        5_991_051_144.0,
        1 << 20,
        10_510,
        0.047_470_187_027,
    ),
    (
        28,
        2_018_511_209,
        1_137_707_312,
        7_365_736_224.0,
        1 << 20,
        13_020,
        0.038_320_696_698,
    ),
];

fn next(depth: usize) -> Request {
    Request {
        version: NanochatVersion::Next,
        depth,
        ..Request::default()
    }
}

#[test]
fn next_version_has_the_recipes_of_its_formulas() {
    for (depth, total, scaling, flops, batch, steps, decay) in NEXT {
        let recipe = Recipe::derive(&next(depth)).expect("a recipe");
        let counts = recipe.config.num_params();
        assert_eq!(
            (counts.total(), counts.scaling()),
            (total, scaling),
            "depth {depth}"
        );
        assert_eq!(recipe.flops_per_token(), flops, "depth {depth}");
        assert_eq!(
            (recipe.total_batch_size, recipe.num_iterations),
            (batch, steps),
            "depth {depth}"
        );
        assert!((recipe.weight_decay - decay).abs() < 1e-11, "depth {depth}");
        let multiplier = (batch as f64 / f64::from(1 << 19)).sqrt();
        assert!((recipe.lr_multiplier - multiplier).abs() < 1e-12);
    }
}

#[test]
fn laws_of_the_next_version_follow_the_chosen_duration() {
    // From the same evaluation in Python, for 1e18 FLOPs.
    for (depth, batch, steps, decay) in [
        (12, 1 << 19, 2510, 0.281_041_191_983),
        (16, 1 << 19, 1203, 0.586_520_452_353),
        (20, 1 << 18, 1321, 0.754_994_035_400),
    ] {
        let request = Request {
            target_flops: Some(1e18),
            ..next(depth)
        };
        let recipe = Recipe::derive(&request).expect("a recipe");
        assert_eq!(
            (recipe.total_batch_size, recipe.num_iterations),
            (batch, steps)
        );
        assert!((recipe.weight_decay - decay).abs() < 1e-11, "depth {depth}");
    }
    let request = Request {
        num_iterations: Some(100),
        ..next(12)
    };
    let error = Recipe::derive(&request).expect_err("no batch").to_string();
    assert!(
        error.contains("100 steps need a --total-batch-size"),
        "{error}"
    );
    let request = Request {
        total_batch_size: Some(1 << 19),
        ..request
    };
    let recipe = Recipe::derive(&request).expect("a recipe");
    assert_eq!(
        (recipe.num_iterations, recipe.target_tokens),
        (100, 100 << 19)
    );
}

#[test]
fn next_version_scales_its_head_with_the_width_and_its_tables_not_at_all() {
    let rate = |request: &Request, name: &str| {
        let recipe = Recipe::derive(request).expect("a recipe");
        let groups = recipe.groups(MuonSchedule::new(1));
        let group = groups.iter().find(|group| group.name == name);
        group.expect("a group").peak_lr / recipe.lr_multiplier
    };
    let wide = next(24); // 1536 channels, twice the reference
    assert!((rate(&wide, "lm_head") - 0.008 / 2.0).abs() < 1e-12);
    assert!((rate(&wide, "wte") - 0.3).abs() < 1e-12);
    let master = Request {
        depth: 24,
        ..Request::default()
    };
    assert!((rate(&master, "lm_head") - 0.008 / 2.0_f64.sqrt()).abs() < 1e-12);
}

#[test]
fn weight_decay_is_scaled_as_in_a_log_of_nanochat() {
    // The flags of the fixture `nanochat_home`, whose log says 1.011460.
    let request = Request {
        depth: 2,
        aspect_ratio: 32,
        head_dim: Some(32),
        sequence_len: 64,
        vocab_size: 512,
        total_batch_size: Some(256),
        micro_batch: MicroBatch::Exactly(2),
        num_iterations: Some(40),
        ..Request::default()
    };
    let recipe = Recipe::derive(&request).expect("a recipe");
    assert_eq!(format!("{:.6}", recipe.weight_decay), "1.011460");
    assert!(
        recipe
            .to_string()
            .contains("decay    1.011460 of Muon, 0.28 scaled by the law")
    );
    let given = Request {
        weight_decay_override: Some(0.1),
        ..request
    };
    let recipe = Recipe::derive(&given).expect("a recipe");
    assert!(
        recipe
            .to_string()
            .contains("decay    0.100000 of Muon, as given")
    );
}
