// Package patch finds a model's layers and applies adapters to them.
//
// # How to choose
//
//   - [Sites] lists the modules of a checkpoint; [Select] picks those that options in
//     PEFT's words target; [Init] makes a fresh adapter for them.
//   - [NewPlan] fits adapters to a base: every adapter tensor is used, every shape
//     checked. [Plan.Merge] is the merged model as a lazy checkpoint, which a writer
//     such as hf.Write pulls blocks out of.
//   - [Combine] makes one adapter of several, and [Resize] gives one other ranks.
//
// The package knows checkpoints and adapters, not files: it reads and writes nothing
// itself.
//
// # What is promised
//
// Nothing is skipped silently. An adapter tensor that fits nowhere, a target without
// factors, a shape that differs, a name that matches twice: each is an error that
// names what was got and what was wanted, before any tensor is read. The numbers are
// those of package kernel, the same on every machine. Memory is bounded by the blocks
// in work and the factors of the targets in work.
package patch
