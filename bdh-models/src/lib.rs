//! Reference models for [`bdh`]: nanochat's GPT, GPT-2 and BDH, with nanochat's scaling laws and the CORE benchmark.
//!
//! Each model reproduces the numbers of its original implementation.
//!
//! | module        | contents                                                           |
//! |---------------|--------------------------------------------------------------------|
//! | [`nanochat`]  | nanochat's GPT and its optimizer                                   |
//! | [`scaling`]   | nanochat's scaling laws: the depth decides a whole run             |
//! | [`gpt2`]      | GPT-2, with weights from Hugging Face's files                      |
//! | [`bdh_model`] | BDH, the Baby Dragon Hatchling                                     |
//! | [`core_eval`] | CORE: 22 tasks that measure the abilities of a language model      |
//!
//! Text, tokenizers and batches are in [`bdh_data`].
//!
//! # Features
//!
//! `flex` (the CPU, default), `wgpu`, `vulkan`, `metal` and `cuda` enable the features of the same names in [`bdh`].

#![forbid(unsafe_code)]

pub mod bdh_model;
pub mod core_eval;
pub mod gpt2;
pub mod hellaswag;
mod init;
mod layers;
pub mod nanochat;
pub mod scaling;
