//! Prompts that are continued in a batch give the same texts as alone.

#[path = "support/tiny.rs"]
mod tiny;

use bdh::cadence::at;
use bdh::lm::{Generated, Sampling, Vocabulary};
use bdh::text::TextTask;
use bdh::{MemorySink, NextToken};
use tiny::Tiny;

/// A vocabulary of letters; one of them may end a document.
struct Ending(Option<i32>);

impl Vocabulary for Ending {
    fn encode(&self, text: &str) -> Vec<i32> {
        text.bytes()
            .map(|byte| i32::from(byte - b'a') % tiny::VOCAB as i32)
            .collect()
    }

    fn decode(&self, ids: &[i32]) -> String {
        ids.iter().map(|id| char::from(b'a' + *id as u8)).collect()
    }

    fn bos(&self) -> Option<i32> {
        self.0
    }

    fn token_bytes(&self) -> Vec<u32> {
        vec![1; tiny::VOCAB]
    }
}

const PROMPTS: [&str; 4] = ["abcdefgh", "d", "kij", "d"];

fn prompts(max_tokens: usize) -> Vec<(&'static str, Sampling)> {
    let how = |seed| Sampling {
        max_tokens,
        temperature: 1.0,
        seed,
        ..Sampling::default()
    };
    PROMPTS.into_iter().zip((10..).map(how)).collect()
}

fn generate(bos: Option<i32>, prompts: &[(&str, Sampling)]) -> Vec<Generated> {
    let task = NextToken::<Tiny>::new().vocabulary(Ending(bos));
    let texts = task.generate(&Tiny::new(0.0), prompts);
    texts.expect("texts")
}

#[test]
fn each_text_is_the_same_alone_and_in_a_batch() {
    for bos in [None, Some(2)] {
        let together = generate(bos, &prompts(30));
        let lengths: Vec<_> = together.iter().map(|text| text.tokens.len()).collect();
        match bos {
            None => {
                assert_eq!(lengths, [30; 4]);
                assert_ne!(together[1].text, together[3].text, "one prompt, two seeds");
            }
            Some(_) => assert!(lengths.iter().any(|length| *length < 30), "{lengths:?}"),
        }
        for (prompt, text) in prompts(30).iter().zip(&together) {
            assert_eq!(*text, generate(bos, std::slice::from_ref(prompt))[0]);
        }
    }
}

#[test]
fn no_prompts_give_no_texts() {
    assert_eq!(generate(None, &[]), []);
    assert_eq!(generate(None, &prompts(0)), vec![Generated::default(); 4]);
}

#[test]
fn a_batch_costs_one_read_a_token_for_any_number_of_prompts() {
    let _alone = tiny::alone();
    let (memory, seen) = (MemorySink::default(), tiny::Seen::new());
    let received = seen.clone();
    let sample = tiny::on_step(move |step| {
        received.push(step.text().ok_or("no text")?.sample_all(&prompts(12))?);
        let (prompt, how) = &prompts(12)[2];
        assert_eq!(
            step.text().ok_or("no text")?.sample(prompt, how)?,
            received.all()[0][2]
        );
        Ok(())
    });
    let run = tiny::run(2)
        .sink(memory)
        .callback(bdh::CallbackExt::on(sample, at([2])));
    let fitted = run
        .build()
        .expect("a valid run")
        .fit()
        .expect("a run that completes");
    assert_eq!(fitted.warnings, []);
    assert_eq!(
        fitted.overhead.rows[0].reads,
        2 * 12,
        "one call of four prompts and one of one"
    );
    assert_eq!(seen.all()[0].len(), 4);
}
