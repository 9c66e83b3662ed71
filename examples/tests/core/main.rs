//! CORE: bundles, prompts, scores, and the program that evaluates a run.

#[path = "../support/core_bundle.rs"]
mod core_bundle;
mod judged;
#[path = "../../../bdh-callbacks/tests/support/judges.rs"]
mod judges;
mod mistakes;
mod program;
#[path = "../support/program.rs"]
mod programs;
