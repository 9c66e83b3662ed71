//! Reference models for [`bdh`], each to the numbers of its original: nanochat's GPT, GPT-2 and BDH, with scaling laws and CORE.
//!
//! | module        | what it has                                                        |
//! |---------------|--------------------------------------------------------------------|
//! | [`nanochat`]  | nanochat's GPT and its optimizer                                   |
//! | [`scaling`]   | nanochat's scaling laws: a depth decides a whole run               |
//! | [`gpt2`]      | GPT-2, with weights from Hugging Face's files                      |
//! | [`hatchling`] | BDH, the Baby Dragon Hatchling                                     |
//! | [`core_eval`] | CORE: 22 tasks that tell what a language model can do              |
//!
//! Text, tokenizers and batches for them are in [`bdh_data`].
//!
//! # Features
//!
//! `flex` (the CPU, default), `wgpu`, `vulkan`, `metal` and `cuda` are those of [`bdh`].

#![forbid(unsafe_code)]

pub mod core_eval;
pub mod gpt2;
pub mod hatchling;
mod init;
mod layers;
pub mod nanochat;
pub mod scaling;
