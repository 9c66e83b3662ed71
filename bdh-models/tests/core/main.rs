//! Tests of CORE: bundles, prompts, scores.

#[path = "../support/core_bundle.rs"]
mod core_bundle;
mod judged;
#[path = "../../../bdh-callbacks/tests/support/judges.rs"]
mod judges;
mod mistakes;
