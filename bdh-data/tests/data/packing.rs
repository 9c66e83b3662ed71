//! Rows are packed by best fit, are full, and are the same after a resume.

use bdh::BoxError;
use bdh::data::TrainData;
use bdh_data::{Packed, Tokenizer, passages, val_batches};
use proptest::prelude::*;
use std::sync::Arc;

const BOS: i32 = 256;

/// Returns documents of the given lengths, including BOS. Each other id identifies its document and position.
fn documents(lengths: &[usize]) -> Arc<[Vec<i32>]> {
    let document = |(i, &length): (usize, &usize)| {
        let mut ids: Vec<i32> = (0..length)
            .map(|j| 1000 * (i as i32 + 1) + j as i32)
            .collect();
        ids[0] = BOS;
        ids
    };
    lengths.iter().enumerate().map(document).collect()
}

fn packed(documents: &Arc<[Vec<i32>]>, rows: usize, seq_len: usize) -> Packed {
    Packed::new(Arc::clone(documents), rows, seq_len, 7).expect("enough documents")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn training_rows_equal_those_of_the_plain_algorithm(
        lengths in prop::collection::vec(2_usize..40, 3..1500),
        seq_len in 2_usize..64,
    ) {
        prop_assume!(lengths.iter().sum::<usize>() > seq_len);
        let documents = documents(&lengths);
        let mut queue = training_order(documents.len()).map(|i| documents[i].clone());
        let mut buffer = Vec::new();
        let mut source = packed(&documents, 1, seq_len);
        for _ in 0..100 {
            let expected = plain_row(&mut buffer, &mut queue, seq_len + 1).expect("endless");
            let batch = source.next_batch().expect("endless");
            prop_assert_eq!(batch.targets(), &expected[1..]);
        }
    }

    #[test]
    fn validation_rows_equal_those_of_the_plain_algorithm(
        lengths in prop::collection::vec(2_usize..40, 3..1500),
        seq_len in 2_usize..64,
    ) {
        prop_assume!(lengths.iter().sum::<usize>() > seq_len);
        let documents = documents(&lengths);
        let mut queue = validation_order(documents.len()).map(|i| documents[i].clone());
        let mut buffer = Vec::new();
        for batch in val_batches(&documents, 1, seq_len, usize::MAX).expect("enough documents") {
            let expected = plain_row(&mut buffer, &mut queue, seq_len + 1).expect("as many rows");
            prop_assert_eq!(batch.targets(), &expected[1..]);
        }
        prop_assert!(plain_row(&mut buffer, &mut queue, seq_len + 1).is_none());
    }

    #[test]
    fn row_has_whole_documents_and_at_most_one_cropped_at_the_end(
        lengths in prop::collection::vec(2_usize..40, 3..200),
        seq_len in 2_usize..64,
    ) {
        prop_assume!(lengths.iter().sum::<usize>() > seq_len);
        let documents = documents(&lengths);
        let mut source = packed(&documents, 3, seq_len);
        for _ in 0..5 {
            let batch = source.next_batch().expect("endless");
            prop_assert_eq!((batch.rows(), batch.seq_len()), (3, seq_len));
            for targets in batch.targets().chunks(seq_len) {
                check_row(&documents, targets)?;
            }
        }
    }

    #[test]
    fn resumed_source_yields_the_same_batches(
        lengths in prop::collection::vec(2_usize..40, 3..2000),
        before in 0_usize..60,
        rows in 1_usize..4,
    ) {
        prop_assume!(lengths.iter().sum::<usize>() > 32);
        let documents = documents(&lengths);
        let mut source = packed(&documents, rows, 32);
        for _ in 0..before {
            source.next_batch().expect("endless");
        }
        let saved = serde_json::to_string(&source.state()).expect("JSON");
        prop_assert!(saved.len() < 8_000, "{} bytes", saved.len());

        let mut resumed = packed(&documents, rows, 32);
        resumed.next_batch().expect("endless"); // a loaded state replaces the position
        resumed.load_state(&serde_json::from_str(&saved).expect("JSON")).expect("the same data");
        for _ in 0..40 {
            prop_assert_eq!(resumed.next_batch().expect("endless"), source.next_batch().expect("endless"));
        }
        prop_assert_eq!(resumed.state(), source.state());
    }
}

/// Checks that targets are whole documents. The first document's BOS is an input, and the last document may be cut.
fn check_row(documents: &[Vec<i32>], targets: &[i32]) -> Result<(), TestCaseError> {
    let row = [&[BOS], targets].concat();
    let starts: Vec<usize> = (0..row.len()).filter(|&i| row[i] == BOS).collect();
    for (n, &start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).copied().unwrap_or(row.len());
        let piece = &row[start..end];
        let Some(&id) = piece.get(1) else {
            prop_assert_eq!(end, row.len()); // only the BOS of this document fits
            continue;
        };
        let document = &documents[id as usize / 1000 - 1];
        if end < row.len() {
            prop_assert_eq!(piece, document.as_slice());
        } else {
            prop_assert_eq!(piece, &document[..piece.len()]);
        }
    }
    Ok(())
}

/// Fills a row like nanochat's `dataloader.py`, slowly and with the documents themselves.
fn plain_row(
    buffer: &mut Vec<Vec<i32>>,
    queue: &mut impl Iterator<Item = Vec<i32>>,
    width: usize,
) -> Option<Vec<i32>> {
    let mut row = Vec::new();
    while row.len() < width {
        while buffer.len() < 1000
            && let Some(document) = queue.next()
        {
            buffer.push(document);
        }
        let room = width - row.len();
        let mut best = None;
        for (i, document) in buffer.iter().enumerate() {
            let longer = best.is_none_or(|best: usize| document.len() > buffer[best].len());
            if document.len() <= room && longer {
                best = Some(i);
            }
        }
        if let Some(best) = best {
            row.extend(buffer.remove(best));
        } else {
            let shortest = buffer.iter().map(Vec::len).min()?;
            let first = buffer
                .iter()
                .position(|document| document.len() == shortest)?;
            row.extend(&buffer.remove(first)[..room]);
        }
    }
    Some(row)
}

// Documents of equal length leave the buffer in the order in which they entered it.

fn training_order(documents: usize) -> impl Iterator<Item = usize> {
    let mut source = packed(&of_two_ids(documents), 1, 1);
    std::iter::repeat_with(move || source.next_batch().expect("endless").targets()[0] as usize)
}

fn validation_order(documents: usize) -> impl Iterator<Item = usize> {
    let batches = val_batches(&of_two_ids(documents), 1, 1, usize::MAX);
    batches
        .expect("documents of two ids")
        .into_iter()
        .map(|batch| batch.targets()[0] as usize)
}

fn of_two_ids(documents: usize) -> Arc<[Vec<i32>]> {
    (0..documents as i32).map(|i| vec![BOS, i]).collect()
}

#[test]
fn every_row_starts_with_bos() -> Result<(), BoxError> {
    let text = [
        "one document".to_owned(),
        "another, which is a good deal longer".to_owned(),
    ];
    let documents = passages(&Tokenizer::Bytes, &text, 9);
    let device = bdh::burn::tensor::Device::default();
    let mut source = Packed::new(documents, 4, 8, 0)?;
    for _ in 0..50 {
        let inputs = source.next_batch()?.inputs_on(&device).into_data();
        let inputs = inputs.convert::<i32>().try_to_vec::<i32>()?;
        assert!(inputs.chunks(8).all(|row| row[0] == BOS), "{inputs:?}");
    }
    Ok(())
}

#[test]
fn each_epoch_has_all_documents_in_its_own_order() -> Result<(), BoxError> {
    let documents = documents(&vec![9; 3000]);
    let mut source = packed(&documents, 1, 8);
    let mut epochs = [Vec::new(), Vec::new()];
    for epoch in &mut epochs {
        for _ in 0..3000 {
            epoch.push(source.next_batch()?.targets()[0] / 1000);
        }
    }
    assert_ne!(epochs[0], epochs[1]);
    for mut epoch in epochs {
        epoch.sort_unstable();
        assert_eq!(epoch, (1..=3000).collect::<Vec<_>>());
    }
    Ok(())
}

#[test]
fn validation_is_reproducible_and_has_the_requested_length() -> Result<(), BoxError> {
    let documents = documents(&[17; 100]);
    let all = val_batches(&documents, 4, 16, usize::MAX)?;
    assert_eq!(all.len(), 25);
    assert_eq!(all, val_batches(&documents, 4, 16, usize::MAX)?);
    assert_eq!(val_batches(&documents, 4, 16, 3 * 64)?, all[..3]);
    assert_eq!(val_batches(&documents, 4, 16, 0)?, all[..1]);
    let small = val_batches(&documents, 1000, 16, usize::MAX)?;
    assert_eq!((small.len(), small[0].rows()), (1, 100));
    Ok(())
}

#[test]
fn position_of_other_data_is_an_error() -> Result<(), BoxError> {
    let position = packed(&documents(&[9; 30]), 1, 8).state();
    let mut changed = documents(&[9; 30]).to_vec();
    changed[29][8] += 1;
    assert!(
        packed(&changed.into(), 1, 8).load_state(&position).is_err(),
        "the same number and lengths of documents"
    );
    let mut other = packed(&documents(&[9; 31]), 1, 8);
    assert!(other.load_state(&position).is_err());
    assert!(other.load_state(&serde_json::json!({ "step": 3 })).is_err());
    let mut out_of_range = other.state();
    out_of_range["waiting"] = serde_json::json!([31]);
    assert!(other.load_state(&out_of_range).is_err());
    other.next_batch()?;
    Ok(())
}
