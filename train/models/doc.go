// Package models runs pretrained models with low-rank adapters on them: losses with
// gradients for the adapter's factors, logits, and generation.
//
// # How to choose
//
// [Load] builds the model that a checkpoint's config.json describes; the result is a
// [Model] whatever the architecture. [Model.Attach] puts finished adapters on it,
// [Model.Train] the one whose factors [Model.LossGrad] differentiates. [Generate]
// writes text tokens with a key-value cache. Optimizers, schedules and data are in
// package train.
//
// # What is promised
//
// A model computes what transformers computes in float32 for the same files, within
// float32's rounding; whatever a config asks for beyond that is refused by name before a
// weight is read, and so are weights that the model has no place for. Base weights are
// frozen: they never get a gradient. Results are the same bits for every GOMAXPROCS
// (see package autodiff for the conditions). Module paths are those that PEFT sees in
// memory, such as "model.layers.0.self_attn.q_proj" and "lm_head", whatever prefix the
// checkpoint's names have.
//
// A model and its sessions belong to one goroutine at a time.
package models
