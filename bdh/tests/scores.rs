//! Scores of given texts, in evals and in callbacks.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::burn::tensor::{Tensor, TensorData};
use bdh::cadence::at;
use bdh::lm::{TokenScore, score};
use bdh::{CausalLm, Probe};
use tiny::Tiny;

const ROWS: [&[i32]; 4] = [&[3, 10, 9, 6], &[5], &[0, 1], &[]];

/// Computes the scores from the logits, in double precision.
fn by_hand(row: &[i32]) -> Vec<TokenScore> {
    let tokens = TensorData::new(row.to_vec(), [1, row.len()]);
    let logits = Tiny::new(0.0).logits(Tensor::from_data(tokens, &tiny::device()), &Probe::off());
    let logits: Vec<f64> = logits.into_data().iter::<f64>().collect();
    let score = |(logits, &id): (&[f64], &i32)| {
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        let logit = logits[id as usize];
        TokenScore {
            nats: (sum.ln() - logit) as f32,
            is_likeliest: logits.iter().all(|other| *other <= logit),
        }
    };
    logits
        .chunks(tiny::VOCAB)
        .zip(&row[1..])
        .map(score)
        .collect()
}

fn assert_close(ours: &[TokenScore], expected: &[TokenScore]) {
    assert_eq!(ours.len(), expected.len());
    for (ours, expected) in ours.iter().zip(expected) {
        assert!(
            (ours.nats - expected.nats).abs() < 1e-5,
            "{ours:?} {expected:?}"
        );
        assert_eq!(ours.is_likeliest, expected.is_likeliest);
    }
}

#[test]
fn scores_do_not_depend_on_the_rest_of_the_batch() {
    let model = Tiny::new(0.0);
    let together = score(&model, &ROWS).expect("scores");
    assert_eq!(
        together.iter().map(Vec::len).collect::<Vec<_>>(),
        [3, 0, 1, 0]
    );
    for (row, scores) in ROWS
        .iter()
        .zip(&together)
        .filter(|(row, _)| !row.is_empty())
    {
        assert_close(scores, &by_hand(row));
        assert_close(scores, &score(&model, &[*row]).expect("scores")[0]);
    }
    assert_eq!(
        score(&model, &[]).expect("scores"),
        Vec::<Vec<TokenScore>>::new()
    );
}

#[test]
fn the_models_own_predictions_score_highest() {
    let follow: Vec<i32> = (0..tiny::VOCAB as i32).collect();
    let rows: Vec<[i32; 2]> = follow.iter().map(|id| [4, *id]).collect();
    let rows: Vec<&[i32]> = rows.iter().map(<[i32; 2]>::as_slice).collect();
    let scores = score(&Tiny::new(0.0), &rows).expect("scores");
    let best = scores
        .iter()
        .min_by(|a, b| a[0].nats.total_cmp(&b[0].nats))
        .expect("some");
    assert_eq!(
        scores.iter().filter(|score| score[0].is_likeliest).count(),
        1
    );
    assert!(best[0].is_likeliest);
}

#[test]
fn an_unknown_token_id_is_refused_with_its_place() {
    let error = score(&Tiny::new(0.0), &[&[1, 2], &[3, 11, 4]]).expect_err("11 ids: 0 to 10");
    assert_eq!(
        error.to_string(),
        "token id 11 (to be scored, row 1, position 1) is outside the model's vocabulary, ids 0 to 10: \
         use the tokenizer that the model was made for"
    );
}

#[test]
fn a_callback_scores_the_current_model_for_one_read() {
    let _alone = tiny::alone();
    let seen = tiny::Seen::new();
    let received = seen.clone();
    let look = tiny::on_step(move |step| {
        received.push(step.text().ok_or("no text")?.score(&ROWS)?);
        step.text().ok_or("no text")?.score(&[&[1]])?; // nothing to score, nothing to read
        Ok(())
    });
    let run = tiny::run(3).callback(bdh::CallbackExt::on(look, at([3])));
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(fitted.warnings, []);
    assert_eq!(fitted.overhead.rows[0].reads, 1);
    assert_eq!(seen.all(), [score(&fitted.model, &ROWS).expect("scores")]);
}

#[test]
fn scoring_a_training_model_uses_no_dropout_and_no_tape() {
    let training = Tiny::new(0.9);
    assert!(training.embed.weight.val().is_autodiff());
    let scores = score(&training, &ROWS).expect("scores");
    assert_eq!(scores, score(&Tiny::new(0.0), &ROWS).expect("scores"));
}
